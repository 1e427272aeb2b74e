import os

import requests


class BaseAPI:
    fail_msg = "Failed to obtain answer via API."

    def __init__(self, model, **given):
        self.model = model

    def working(self):
        return self.generate("hello") != self.fail_msg

    def generate(self, message):
        messages = [{"role": "user", "content": message}]
        body = {"model": self.model, "messages": messages, "temperature": 0, "max_tokens": 7}
        headers = {"Authorization": f"Bearer {os.environ['OPENAI_API_KEY']}"}
        url = "https://api.example.org/v1/chat/completions"
        answer = requests.post(url, json=body, headers=headers, timeout=9)
        if answer.status_code != 200:
            return self.fail_msg
        return answer.json()["choices"][0]["message"]["content"]
