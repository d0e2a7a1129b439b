"""Replicas, a database and a load balancer on one machine: parts are killed, frozen and updated."""
