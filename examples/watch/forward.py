"""Forwards the events of a job to MLflow while it runs: python forward.py JOB"""
import json, os, sys, time
import urllib.error, urllib.request
import mlflow

job = sys.argv[1]
service = os.environ.get("LORASMITH_URL", "http://127.0.0.1:8080")
key = os.environ.get("LORASMITH_API_KEY")
access = {"authorization": f"Bearer {key}"} if key else {}

def events():
    """The events of the job, past and future, to its last one; after a lost connection, those that follow."""
    last = None
    while True:
        headers = access | ({"last-event-id": last} if last else {})
        request = urllib.request.Request(f"{service}/jobs/{job}/events", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as stream:
                if stream.status == 204:  # it has ended
                    return
                for line in stream:
                    if line.startswith(b"data: "):
                        event = json.loads(line[6:])
                        last = event["id"]
                        yield event
        except urllib.error.HTTPError as error:
            if error.code < 500:
                sys.exit(error.read().decode())
            time.sleep(2)
        except OSError:
            time.sleep(2)

with urllib.request.urlopen(urllib.request.Request(f"{service}/jobs/{job}", headers=access)) as answer:
    spec = json.load(answer)
mlflow.set_experiment("lorasmith")
with mlflow.start_run(run_name=spec["name"] or job):
    mlflow.set_tags({"job": job, "base_model": spec["base_model"], "dataset": spec["dataset"]} | spec["metadata"])
    for part in ("lora", "training"):
        mlflow.log_params({f"{part}.{name}": value for name, value in spec[part].items()})
    for event in events():
        data = event["data"]
        if event["type"] == "step-finished":
            names = ("loss", "learning_rate", "grad_norm", "tokens_per_second")
            mlflow.log_metrics({f"train/{name}": data[name] for name in names}, step=data["step"])
        elif event["type"] == "evaluation-finished":
            names = ("loss", "perplexity", "accuracy")
            mlflow.log_metrics({f"eval/{name}": data[name] for name in names if data[name] is not None}, step=data["step"])
        elif event["type"] == "adapter-published":
            mlflow.set_tag("adapter", data["adapter"])
        elif event["type"] in ("job-failed", "job-cancelled"):
            mlflow.set_tag("ended", event["type"])
