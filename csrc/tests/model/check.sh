#!/bin/sh
# The ring's protocol in model checkers: the real one must pass, every mutant must be caught. A tool that is not
# installed is skipped, and said so.      check.sh BUILD_DIRECTORY
set -u
here=$(cd "$(dirname "$0")" && pwd)
include=$here/../../include
build=$1
mkdir -p "$build" && cd "$build" || exit 1
failed=0

# spin_run NAME [FLAG]: exit status 0 when every state was seen and no assertion failed, 1 when one failed.
spin_run() {
    dir=spin-$1
    mkdir -p "$dir"
    (
        cd "$dir" || exit 2
        rm -f pan ring.pml.trail
        spin ${2:+"-D$2"} -a "$here/ring.pml" >spin.log 2>&1 || exit 2
        ${CC:-cc} -O2 -w -DSAFETY -DCOLLAPSE -DMEMLIM=1024 pan.c -o pan >cc.log 2>&1 || exit 2
        ./pan -m200000 -E >pan.log 2>&1
        grep -q 'errors: 0' pan.log && ! grep -q -e 'max search depth too small' -e 'out of memory' pan.log && exit 0
        grep -q 'assertion violated' pan.log && exit 1
        exit 2
    )
}

# genmc_run PROGRAM NAME [FLAG]: as above. A violation is status 42; versions that estimate first are told not to.
genmc_run() {
    estimation=$(genmc --help | sed -n 's/.*\(--disable-estimation\).*/\1/p')
    genmc --rc11 $estimation -- -I"$include" ${3:+"-D$3"} "$here/$1.c" >"genmc-$1-$2.log" 2>&1
    case $? in
    0) return 0 ;;
    42) grep -q 'Assertion violation' "genmc-$1-$2.log" && return 1 || return 2 ;;
    *) return 2 ;;
    esac
}

# expect WANTED_STATUS NAME COMMAND...
expect() {
    wanted=$1 name=$2
    shift 2
    "$@"
    status=$?
    [ $status -eq "$wanted" ] && return
    case $status in
    0) echo "VIOLATION model: mutant not caught: $name" ;;
    1) echo "VIOLATION model: assertion failed: $name" ;;
    *) echo "VIOLATION model: did not run: $name (logs in $build)" ;;
    esac
    failed=1
}

if command -v spin >/dev/null; then
    mutants='COMMIT_FIRST NO_ODD_MARK IGNORE_WRITER CLAIM_WITHOUT_CAS CONTENT_LAST NO_CHECKSUM NO_SECOND_LOOK'
    expect 0 ring spin_run ring
    for mutant in $mutants; do expect 1 "$mutant" spin_run "$mutant" "MUTANT_$mutant"; done
    states=$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' spin-ring/pan.log)
    [ $failed -eq 0 ] && echo "ok spin: $states states, $(echo $mutants | wc -w) mutants caught"
else
    echo "skipped: spin is not installed"
fi

if command -v genmc >/dev/null; then
    before=$failed
    for program in slot content; do
        mutants='NO_WRITE_FENCE NO_READ_FENCE'
        [ $program = slot ] && mutants="$mutants RELAXED_COMMIT RELAXED_CLAIM"
        expect 0 $program genmc_run ${program}_genmc right
        for mutant in $mutants; do expect 1 "$program $mutant" genmc_run ${program}_genmc $mutant "MUTANT_$mutant"; done
    done
    executions=$(sed -n 's/.*complete executions explored: //p' genmc-slot_genmc-right.log)
    [ $failed -eq "$before" ] && echo "ok genmc: $executions executions of slot.h, content.c too, 6 mutants caught"
else
    echo "skipped: genmc is not installed"
fi
exit $failed
