"""Trains an adapter and downloads it: python train.py ROWS.jsonl MODEL"""
import os, sys, time
import httpx

rows, model = sys.argv[1:]
key = os.environ.get("LORASMITH_API_KEY")
service = httpx.Client(
    base_url=os.environ.get("LORASMITH_URL", "http://127.0.0.1:8080"),
    headers={"authorization": f"Bearer {key}"} if key else {},
    timeout=120,
)

def call(method, path, **content):
    answer = service.request(method, path, **content)
    return answer.json() if answer.is_success else sys.exit(answer.text)  # the text lists every mistake

jsonl = {"content-type": "application/x-ndjson"}
dataset = call("POST", "/datasets", content=open(rows, "rb"), headers=jsonl)
job = call("POST", "/jobs", json={"base_model": model, "dataset": dataset["id"], "training": {"epochs": 1}})
while job["status"] not in ("succeeded", "failed", "cancelled"):
    time.sleep(1)
    job = call("GET", f"/jobs/{job['id']}")
    print(job["status"], job["progress"])
if job["adapter"] is None:
    sys.exit(f"{job['id']} {job['status']}: {job['error']}")
with open(f"{job['adapter']}.tar", "wb") as tar, service.stream("GET", f"/adapters/{job['adapter']}") as download:
    tar.writelines(download.raise_for_status().iter_bytes())
print(job["adapter"])
