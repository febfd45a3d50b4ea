"""A job in a Flink cluster, by its REST interface: what Beam's own `cancel` leaves undone.

Beam's job server only stops to wait for the job; the cluster goes on with it. See "Jobs" in Flink's
documentation of its REST API.
"""

import uuid

import requests

_SECONDS = 10.0


def new_job_name() -> str:
    """Return a name that no other job has."""
    return f"dac-tokenize-{uuid.uuid4().hex[:12]}"


def cancel_job(master: str, name: str) -> bool:
    """Cancel the one running job of a name.

    Args:
        master: URL of the JobManager's REST interface, "http://host:port".
        name: the job's.

    Returns:
        Whether the JobManager took the order; False where it does not answer, or knows no such job
        that runs, or several.
    """
    try:
        answer = requests.get(f"{master}/jobs/overview", timeout=_SECONDS)
        answer.raise_for_status()
        jobs = [
            job["jid"]
            for job in answer.json()["jobs"]
            if job["name"] == name and job["end-time"] < 0  # in milliseconds; -1 before the end
        ]
        if len(jobs) != 1:
            return False
        url = f"{master}/jobs/{jobs[0]}"
        requests.patch(url, params={"mode": "cancel"}, timeout=_SECONDS).raise_for_status()
    except (requests.RequestException, LookupError, TypeError):
        return False
    return True
