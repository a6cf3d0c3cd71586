"""Shows Schemathesis how to serialize Lorasmith's request bodies, and which resources exist."""

import os
from zlib import crc32

import schemathesis
from hypothesis import strategies as st

RESOURCES = {
    "/datasets/": os.environ["FUZZ_DATASET"],
    "/jobs/": os.environ["FUZZ_JOB"],
    "/adapters/": os.environ["FUZZ_ADAPTER"],
    "/models/": "tiny-llama",
}
with open(os.environ["FUZZ_TAR"], "rb") as file:
    TAR = file.read()


@schemathesis.serializer("application/x-ndjson", "application/jsonl", "application/octet-stream", "application/x-tar")
def unchanged(ctx, value):
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


# A tar of a PEFT folder, a part of it, rows, or any bytes.
schemathesis.openapi.format(
    "binary",
    st.one_of(
        st.just(TAR),
        st.integers(0, len(TAR)).map(lambda end: TAR[:end]),
        st.integers(1, 50).map(lambda rows: b'{"text": "a"}\n' * rows),
        st.binary(max_size=2000),
    ),
)


def chosen(value, share):
    """Deterministic for a value, so that a run can be repeated."""
    return crc32(repr(value).encode("utf-8", "surrogatepass")) % share == 0


@schemathesis.hook
def map_path_parameters(ctx, path_parameters):
    operation = ctx.operation
    if operation.method.upper() == "DELETE" or not path_parameters or not chosen(path_parameters, 2):
        return path_parameters
    for begin, resource in RESOURCES.items():
        name = "name" if begin == "/models/" else "id"
        if operation.path.startswith(begin) and name in path_parameters:
            return {**path_parameters, name: resource}
    return path_parameters


@schemathesis.hook
def map_body(ctx, body):
    if ctx.operation.path != "/jobs" or not isinstance(body, dict) or chosen(body, 3):
        return body
    return {**body, "base_model": "tiny-llama", "dataset": RESOURCES["/datasets/"]}


@schemathesis.hook
def after_call(ctx, case, response):
    # A range of a JSON file is no JSON.
    if response.status_code == 206:
        response.headers["content-type"] = ["application/octet-stream"]
