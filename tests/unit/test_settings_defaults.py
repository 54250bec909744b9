"""Every default, written down: a change of default is a visible change here."""

from hafleet.core.settings import Dns, Events, Lifecycle, Settings, Signals

BRANCH = {"latency": None, "geolocation": None, "failover": None}
REQUIRED = {
    "fleet": "edge",
    "frontends": [{"name": "web", "bind": ":80", "tls": {"cert": "/c"}, "routes": [{"path": "/", "backend": "site"}]}],
    "backends": [
        {"name": "site", "sources": [{"asg": "a"}], "stick": {}, "cookie": {"name": "S"}, "tls": {}},
    ],
    "node": {"static": {"id": "n", "private_ip": "10.0.0.1"}},
    "peers": {"tls": {"cert": "/c", "ca": "/a"}},
    "dns": {
        "name": "lb.example.com",
        "tree": {"failover": ["a", {"latency": {"eu-west-1": "b"}}]},
        "health": {"endpoint": {}, "alarm": {"name": "a"}, "calculated": {"children": ["endpoint"]}},
    },
    "signals": {},
    "lifecycle": {},
    "events": {},
    "eip": {"pool_tag": {"pool": "edge"}},
}


def test_every_default() -> None:
    assert Settings.model_validate(REQUIRED).model_dump(mode="json") == {
        "fleet": "edge",
        "aws": {"region": None, "connect_timeout": 5.0, "read_timeout": 10.0, "max_attempts": 3},
        "node": {
            "source": "static",
            "static": {"id": "n", "private_ip": "10.0.0.1", "public_ip": None, "zone": "", "region": "", "asg": ""},
        },
        "peers": {"port": 10000, "tls": {"cert": "/c", "ca": "/a"}, "settle": 5.0},
        "haproxy": {
            "binary": "haproxy",
            "config": "/etc/haproxy/haproxy.cfg",
            "maps_dir": "/etc/haproxy/maps",
            "templates_dir": None,
            "runtime_socket": "/run/haproxy/admin.sock",
            "master_socket": "/run/haproxy/master.sock",
            "server_state": "/var/lib/hafleet/server-state",
            "maxconn": None,
            "threads": None,
            "hard_stop_after": 300.0,
            "close_spread_time": 0.0,
            "max_reloads": 5,
            "stats": "127.0.0.1:8404",
            "health": ":8403",
            "health_uri": "/hafleet-health",
            "timeout_connect": 5.0,
            "timeout_client": 60.0,
            "timeout_server": 60.0,
            "timeout_queue": 30.0,
            "timeout_http_request": 10.0,
            "timeout_http_keep_alive": 60.0,
            "timeout_tunnel": 3600.0,
        },
        "frontends": [
            {
                "name": "web",
                "bind": ":80",
                "mode": "http",
                "route_by": None,
                "default_backend": None,
                "routes": [{"host": None, "path": "/", "backend": "site"}],
                "tls": {"cert": "/c", "alpn": "h2,http/1.1"},
                "accept_proxy": False,
                "forwarded_for": True,
            }
        ],
        "backends": [
            {
                "name": "site",
                "domains": [],
                "mode": None,
                "port": 80,
                "family": "ipv4",
                "balance": "roundrobin",
                "sources": [
                    {"asg": "a", "asg_tag": None, "static": None, "weight": None, "port": None, "terminate_hook": None}
                ],
                "capacity_weights": False,
                "stick": {"on": "src", "type": None, "size": 204800, "expire": 1800.0},
                "cookie": {"name": "S", "secure": False, "httponly": True, "max_idle": None, "max_life": None},
                "check": {
                    "path": None,
                    "host": None,
                    "expect": None,
                    "body": None,
                    "interval": 2.0,
                    "fast": None,
                    "down": None,
                    "timeout": None,
                    "rise": 2,
                    "fall": 3,
                    "port": None,
                    "tls": False,
                },
                "tls": {"verify": True, "ca": "@system-ca", "sni": None},
                "slow_start": None,
                "drain": 300.0,
                "zone_affinity": "none",
                "maxconn": None,
                "send_proxy": False,
            }
        ],
        "dns": {
            "name": "lb.example.com",
            "zone": None,
            "zone_id": None,
            "private": False,
            "policy": "weighted",
            "weight": 100,
            "ttl": 30,
            "group": None,
            "address": "public",
            "families": ["ipv4"],
            "tree": {
                "latency": None,
                "geolocation": None,
                "failover": ["a", {**BRANCH, "latency": {"eu-west-1": "b"}}],
                "shards": 1,
            },
            "health": {
                "endpoint": {
                    "protocol": "http",
                    "port": None,
                    "path": None,
                    "host": None,
                    "search": None,
                    "interval": 10,
                    "threshold": 3,
                    "regions": [],
                    "sni": True,
                    "latency": False,
                    "inverted": False,
                    "disabled": False,
                },
                "alarm": {"name": "a", "region": None, "insufficient": "unhealthy"},
                "calculated": {"children": ["endpoint"], "healthy": 1},
            },
            "interval": 60.0,
            "settle": 60.0,
            "reap": {"interval": 600.0, "confirm": 120.0},
            "limits": {
                "requests": {"burst": 50.0, "rate": 10.0},
                "create_check": {"burst": 50.0, "rate": 0.5},
                "delete_check": {"burst": 15.0, "rate": 3.0},
                "changes": {"burst": 1500.0, "rate": 100.0},
            },
        },
        "signals": {"cpu": None, "errors_5xx": None, "connect_errors": None, "p99": None},
        "lifecycle": {
            "hooks": None,
            "join_timeout": 900.0,
            "abandon_tag": False,
            "peers_timeout": 45.0,
            "rebalance": "ignore",
            "unhealthy_after": 0.0,
            "drain": {"quiet": 10.0, "max": 900.0},
        },
        "events": {"queue": "none", "interval": 60.0},
        "eip": {"pool_tag": {"pool": "edge"}},
        "safety": {
            "max_removal": 0.15,
            "confirm_reads": 2,
            "confirm_time": 3.0,
            "ceiling": 10.0,
            "hold_max": 3600.0,
            "reload_min_interval": 10.0,
            "cold_start_quiet": 10.0,
            "max_old_workers": 5,
        },
        "passes": {"interval": 10.0, "jitter": 0.1, "settle_min": 0.1, "settle_max": 1.0},
        "status": {"listen": "127.0.0.1:8405"},
        "state_dir": "/var/lib/hafleet",
    }


def test_sections_of_later_issues_are_absent_unless_written() -> None:
    short = {key: REQUIRED[key] for key in ("fleet", "frontends", "backends")}
    settings = Settings.model_validate(short)
    assert (settings.dns, settings.signals, settings.lifecycle, settings.events) == (None, None, None, None)
    assert (settings.node.source, settings.node.static) == ("imds", None)


def test_what_a_section_is_when_it_is_written_empty() -> None:
    assert (Signals().cpu, Lifecycle().join_timeout, Events().queue) == (None, 900.0, "none")
    dns = Dns(name="a")
    assert (dns.zone, dns.tree.shards, dns.tree.failover, dns.health.endpoint) == (None, 1, None, None)
