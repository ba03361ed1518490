"""What a call costs: a price list as data, the search for a model in it, and the tool that writes it.

`models.json` is read by `catalog`, searched by `match`, written offline by `generate`. Nothing here is imported by
`import fasttrace`; the exporter thread loads it when the first span wants a price.
"""
