"""Asks a base model and an adapter of it: python ask.py MODEL ADAPTER QUESTION"""
import os, sys
from openai import OpenAI

model, adapter, question = sys.argv[1:]
client = OpenAI(
    base_url=os.environ.get("LORASMITH_URL", "http://127.0.0.1:8080") + "/v1",
    api_key=os.environ.get("LORASMITH_API_KEY", "none"),
)
messages = [{"role": "user", "content": question}]
for name in [model, adapter]:
    print(f"{name}: ", end="")
    answer = client.chat.completions.create(
        model=name, messages=messages, temperature=0, max_tokens=64, stream=True
    )
    for part in answer:
        print(part.choices[0].delta.content or "", end="", flush=True)
    print()
