"""The stages that make the model `adem-tiny`; run by `tools/make_adem_tiny.py`."""
