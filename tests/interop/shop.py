"""The health protocol of gRPC on port 50051. While the file that its argument names exists, service shop.Cart does not
serve."""

import os
import sys
from concurrent import futures

import grpc


def check(request, context):
    # HealthCheckRequest has the name of the service as field 1, HealthCheckResponse the status as field 1.
    name = request[2:].decode()
    if name != "shop.Cart":
        context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
    return b"\x08\x02" if os.path.exists(sys.argv[1]) else b"\x08\x01"


methods = {"Check": grpc.unary_unary_rpc_method_handler(check)}
server = grpc.server(futures.ThreadPoolExecutor(2))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("grpc.health.v1.Health", methods),))
server.add_insecure_port("0.0.0.0:50051")
server.start()
server.wait_for_termination()
