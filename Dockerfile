# Training and translation on CPUs; leave the first RUN out for PyPI's torch, which has CUDA.
FROM python:3.11-slim
RUN pip install --no-cache-dir torch --index-url https://download.pytorch.org/whl/cpu
COPY . /admin_fairseq
RUN pip install --no-cache-dir '/admin_fairseq[recipes]'
WORKDIR /work
