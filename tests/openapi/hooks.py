"""What schemathesis cannot know: how answers of JSON lines are read, and what the formats of the document mean."""

import json

import schemathesis
from hypothesis import strategies as st

LINES = "application/x-ndjson"


@schemathesis.hook
def before_load_schema(context, raw_schema):
    """In the document the schema of a line, for schemathesis an array of them."""
    for path in raw_schema["paths"].values():
        for operation in path.values():
            for response in operation["responses"].values():
                content = response.get("content", {})
                if LINES in content:
                    content[LINES]["schema"] = {"type": "array", "items": content[LINES]["schema"]}


@schemathesis.deserializer(LINES)
def lines(context, response):
    return [json.loads(line) for line in response.content.splitlines()]


@schemathesis.hook
def map_body(context, body):
    """JSON Schema calls 7.0 an integer; the director, which counts, does not."""
    if isinstance(body, dict):
        return {key: map_body(context, value) for key, value in body.items()}
    if isinstance(body, list):
        return [map_body(context, value) for value in body]
    return int(body) if isinstance(body, float) and body.is_integer() else body


# Unicast addresses: the VIP and the real servers of the lab, and others.
ADDRESSES = st.sampled_from(["172.25.3.100", "172.25.3.101", "172.25.3.2", "172.25.3.3", "10.77.0.1"])

schemathesis.openapi.format("ipv4", ADDRESSES)
schemathesis.openapi.format("address-or-prefix", ADDRESSES | st.sampled_from(["172.25.3.0/24", "2001:db8::/32"]))
schemathesis.openapi.format("ports", st.sampled_from(["all", "8000-8099", "1-65535"]))
