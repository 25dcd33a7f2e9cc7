"""What goes over the wire, one module per noun: request models and response models.

A request model is named after where it stands: `…Body`, `…Query`, `…Path`; `errors.py`
takes the prefix of `loc` from that name.  A response model is built from the store's rows
by attribute and describes every field for `/openapi.json`, with its unit.
"""
