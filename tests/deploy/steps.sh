#!/usr/bin/env bash
# What boot.sh does with the service once systemd has started it. tests/test_deploy.py reads what it prints.
exec >/media/output/log 2>&1
trap 'touch /media/output/done' EXIT

pid=$(systemctl show --property MainPID --value wsgw)
for _ in $(seq 100); do
  /usr/bin/wsgw health --url http://127.0.0.1:8001 >/dev/null 2>&1 && break
  sleep 0.1
done
echo "health: $(/usr/bin/wsgw health --url http://127.0.0.1:8001)"
echo "api: $(curl -s -o /dev/null -w '%{http_code}' -H 'X-API-Key: a-long-key-of-the-package' http://127.0.0.1:8001/internal/connections)"
curl -s http://127.0.0.1:8001/metrics | grep '^process_start_time_seconds' | sed 's/ .*/: there/'
grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' "/proc/$pid/status"
echo "root: $(grep -cE '^Uid:\s0\s' "/proc/$pid/status")"
echo "state: $(stat -c '%a %U' /var/lib/private/wsgw)"

metric() { curl -s http://127.0.0.1:8001/metrics | sed -n "s/^$1 //p"; }
reload() {
  systemctl reload wsgw
  for _ in $(seq 100); do
    [ "$(metric "$1")" = "$2" ] && break
    sleep 0.1
  done
  echo "reload: $(metric "$1")"
}
sed -i 's/^    path: .*/&\n    max_message_bytes: 4321/' /etc/wsgw/wsgw.yaml
reload 'wsgw_config_reloads_total{result="success"}' 1
echo "mistake: 1" >>/etc/wsgw/wsgw.yaml
reload 'wsgw_config_last_reload_successful' 0
echo "still: $(/usr/bin/wsgw health --url http://127.0.0.1:8001)"
echo "same process: $([ "$pid" = "$(systemctl show --property MainPID --value wsgw)" ] && echo yes)"
systemctl stop wsgw
systemctl show --property Result --property ExecMainStatus wsgw
journalctl --no-pager --output cat --unit wsgw | sed 's/^/| /'
