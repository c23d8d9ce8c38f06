"""A script: prepare a corpus on a Ray cluster of two nodes on this machine, of which one is killed.

Arguments: the manifest, the folder of shards.
"""

import os
import sys
import threading
import time
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from earsight.corpus.shards.over_ray import prepare_over_ray
from earsight.media.types import Coding

NODE = {"num_cpus": 1, "node_ip_address": "127.0.0.1", "object_store_memory": 80 * 2**20}
# A dead node is missed after a second, not after half a minute.
HEALTH = {"health_check_period_ms": 500, "health_check_failure_threshold": 2}


def main():
    manifest, folder = sys.argv[1], Path(sys.argv[2])
    head = {**NODE, "include_dashboard": False, "_system_config": HEALTH}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        other = cluster.add_node(**NODE)
        os.environ["RAY_ADDRESS"] = cluster.address
        killer = threading.Thread(target=kill, args=(cluster, other, folder), daemon=True)
        killer.start()
        coding = Coding(preset="ultrafast", crf=18, short_side=96, rate=16000)
        told = []
        report = prepare_over_ray(
            manifest,
            folder,
            coding=coding,
            shard_seconds=1.5,
            progress=lambda done, of: told.append((done, of)),
        )
        killer.join(timeout=30)
        assert not killer.is_alive(), "nothing was killed"
        assert not ray.is_initialized(), "the connection was left open"
        assert told == [(done, told[-1][1]) for done in range(1, told[-1][1] + 1)]
        print(report.shards, report.clips, report.reused, told[-1][1])
    finally:
        cluster.shutdown()


def kill(cluster, node, folder):
    """End a node without a word once some archives are there."""
    while len([*folder.glob("*.tar")]) < 3:
        time.sleep(0.005)
    cluster.remove_node(node, allow_graceful=False)
    print("killed after", len([*folder.glob("*.tar")]), file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
