import ssl
import sys

ssl._create_default_https_context = ssl._create_unverified_context

from vlmeval.config import supported_VLM  # noqa: E402


def cli():
    sys.stdout.write("\n".join([" ".join(sys.argv), *supported_VLM]) + "\n")
