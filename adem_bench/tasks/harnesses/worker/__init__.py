"""What runs in another harness's environment, without adem_bench: one job, then the process ends.

`process.py` of the folder above starts it with a job as JSON on standard input; the answer is the
last line of standard output. Nothing here may import adem_bench or need Python 3.11.
"""
