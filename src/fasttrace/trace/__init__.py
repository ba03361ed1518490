"""A process's spans from the call to the exporter: context and tracer, the ring's consumer, fork, process resource."""
