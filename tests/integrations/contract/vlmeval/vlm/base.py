class BaseModel:
    INTERLEAVE = False
    allowed_types = ["text", "image", "video"]

    def __init__(self):
        self.dump_image_func = None

    def use_custom_prompt(self, dataset):
        return False

    def set_dump_image(self, function):
        self.dump_image_func = function

    def dump_image(self, line, dataset):
        return self.dump_image_func(line)

    def generate(self, message, dataset=None):
        if isinstance(message, str):
            message = [{"type": "text", "value": message}]
        assert all(item["type"] in self.allowed_types for item in message)
        return self.generate_inner(message, dataset)

    def message_to_promptimg(self, message, dataset=None):
        texts = [item["value"] for item in message if item["type"] == "text"]
        images = [item["value"] for item in message if item["type"] == "image"]
        return "\n".join(texts), images[0] if images else None
