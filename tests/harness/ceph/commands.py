# One connection to a cluster for many commands: a line of JSON in, a line of JSON out.
import json
import sys

import rados

cluster = rados.Rados(conffile=sys.argv[1])
cluster.connect(timeout=60)
print("connected", flush=True)
for line in sys.stdin:
    request = json.loads(line)
    send = cluster.mgr_command if request["to"] == "mgr" else cluster.mon_command
    try:
        status, output, error = send(json.dumps(request["command"]), b"", timeout=60)
    except rados.Error as problem:
        status, output, error = problem.errno or -1, b"", str(problem)
    print(json.dumps({"status": status, "output": output.decode("utf-8", "replace"), "error": error}), flush=True)
