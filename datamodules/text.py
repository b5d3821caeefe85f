def make_tokenizer(inputs):
    raise NotImplementedError
