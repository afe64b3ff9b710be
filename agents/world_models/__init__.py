"""World models: an encoder and a predictor, perhaps a decoder, behind the one interface of `WorldModel`."""
