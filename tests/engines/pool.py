"""Beam's worker pool at one address: `python -m tests.engines.pool ADDRESS --service_port=N`.

Beam's own takes a port at all addresses of the machine. The TaskManagers of a cluster must have a
pool each, and a job names them all by one name and port; so on one machine each needs an address.
"""

import sys

import grpc
from apache_beam.runners.worker import worker_pool_main

address = sys.argv.pop(1)
make_server = grpc.server


def server_at_address(*arguments, **options):
    server = make_server(*arguments, **options)
    bind = server.add_insecure_port
    server.add_insecure_port = lambda everywhere: bind(everywhere.replace("[::]", address))
    return server


if __name__ == "__main__":
    grpc.server = server_at_address
    worker_pool_main.main(sys.argv)
