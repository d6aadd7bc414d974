"""The contract between the pipeline, which writes stores, and everyone who reads them."""
