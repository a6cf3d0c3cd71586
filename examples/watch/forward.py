"""Forwards the events of a job to MLflow while it runs: python forward.py JOB. Called again, it continues."""
import json, os, sys, time
import urllib.error, urllib.parse, urllib.request

if len(sys.argv) != 2:
    sys.exit(__doc__)
job = urllib.parse.quote(sys.argv[1], safe="")
service = os.environ.get("LORASMITH_URL", "http://127.0.0.1:8080")
key = os.environ.get("LORASMITH_API_KEY")
access = {"authorization": f"Bearer {key}"} if key else {}

def reason(error):
    """The message of the service, or what else stands between."""
    text = error.read().decode(errors="replace")
    try:
        return json.loads(text)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return f"{error}: {text[:200]}"

def events(last):
    """The events of the job after the last one that is known, to its end; after a lost connection, those that follow."""
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
                sys.exit(reason(error))
            time.sleep(2)
        except OSError:
            time.sleep(2)

try:
    with urllib.request.urlopen(urllib.request.Request(f"{service}/jobs/{job}", headers=access), timeout=60) as answer:
        spec = json.load(answer)
except urllib.error.HTTPError as error:  # no such job, or no such key
    sys.exit(reason(error))
except OSError as error:
    sys.exit(f"{service} does not answer: {error}")

import mlflow  # only now: it takes seconds, and a wrong job needs none of it

mlflow.set_experiment("lorasmith")
# A job that was resumed, and a program that was stopped, continue the run that they have.
known = mlflow.search_runs(filter_string=f"tags.job = '{job}'", output_format="list")
run_id, last = (known[0].info.run_id, known[0].data.tags.get("last_event")) if known else (None, None)
with mlflow.start_run(run_id=run_id, run_name=spec["name"] or job):
    mlflow.set_tags(spec["metadata"] | {"job": job, "base_model": spec["base_model"], "dataset": spec["dataset"]})
    for part in ("lora", "training"):
        mlflow.log_params({f"{part}.{name}": value for name, value in spec[part].items()})
    try:
        for event in events(last):
            data, last = event["data"], event["id"]
            if event["type"] == "step-finished":
                names = ("loss", "learning_rate", "grad_norm", "tokens_per_second")
                mlflow.log_metrics({f"train/{name}": data[name] for name in names}, step=data["step"])
            elif event["type"] == "evaluation-finished":
                names = [name for name in ("loss", "perplexity", "accuracy") if data[name] is not None]
                mlflow.log_metrics({f"eval/{name}": data[name] for name in names}, step=data["step"])
            elif event["type"] == "adapter-published":
                mlflow.set_tags({"adapter": data["adapter"], "state": "succeeded"})
            elif event["type"] in ("job-failed", "job-cancelled", "job-paused", "job-resumed"):
                mlflow.set_tag("state", event["type"].removeprefix("job-"))
    finally:
        if last:
            mlflow.set_tag("last_event", last)
