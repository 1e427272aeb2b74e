"""As VLMEvalKit's run.py works: GPUs are chosen before torch is imported."""

import sys

assert "torch" not in sys.modules

from vlmeval.config import supported_VLM  # noqa: E402

name, dataset, image, question = sys.argv[1:]
model = supported_VLM[name]()
model.set_dump_image(lambda line: [line["image_path"]])
line = {"question": question, "image_path": image}
assert model.use_custom_prompt(dataset)
message = model.build_prompt(line, dataset=dataset)
sys.stdout.write(f"answer: {model.generate(message=message, dataset=dataset)}\n")
