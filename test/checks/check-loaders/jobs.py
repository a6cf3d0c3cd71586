"""Jobs of a peer: a list in JSON on standard input, a list of results in JSON as the last line of standard output."""

import json
import sys


def run_jobs(run):
    results = []
    for job in json.load(sys.stdin):
        try:
            results.append(run(job))
        except Exception as error:
            results.append({"error": f"{type(error).__name__}: {error}"[:300]})
    print(json.dumps(results), flush=True)
