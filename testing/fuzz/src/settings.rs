//! What people write: config files, flags, variables, lines.

use std::collections::BTreeMap;

pub fn config_file(data: &[u8]) {
    // Bytes that are no text are refused when the file is read.
    if let Ok(text) = std::str::from_utf8(data) {
        etcd::fuzzing::config_file(text);
    }
}

pub fn config_file_seeds() -> Vec<Vec<u8>> {
    let yaml = br#"name: "7"
data-dir: /var/lib/etcd
heartbeat-interval: 50
election-timeout: 1.0e3
grpc-keepalive-min-time: 600000000000
listen-client-urls: https://127.0.0.1:2379,http://[::1]:2377
log-outputs: [stderr, /tmp/x]
auto-compaction-mode: periodic
auto-compaction-retention: "1"
initial-cluster: 7=http://localhost:2380
feature-gates: InitialCorruptCheck=true
cors: "*"
host-whitelist: a,b
client-transport-security: &tls
  cert-file: /c.crt
  client-cert-auth: true
  allowed-hostname: [a, b]
peer-transport-security: *tls
socket-options: {reuse-port: true}
experimental-snapshot-catch-up-entries: 9
--- # another document
? complex
: !!binary aGVsbG8=
"#;
    let json = br#"{"name": "a", "max-wals": 5, "log-outputs": ["stderr"], "quota-backend-bytes": -1, "discovery-config": {}}"#;
    vec![yaml.to_vec(), json.to_vec(), b"unix: |\n  a\n\nname: >-\n  b\n".to_vec()]
}

/// Words up to an empty one are arguments, the rest are variables; a zero byte ends each.
pub fn invocation(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut words = text.split('\0').map(str::to_owned);
    let arguments: Vec<String> = words.by_ref().take_while(|word| !word.is_empty()).collect();
    let variables = words.filter_map(|word| {
        let (name, value) = word.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    });
    let variables: BTreeMap<String, String> = variables.collect();
    etcd::fuzzing::invocation(&arguments, &variables);
}

pub fn invocation_seeds() -> Vec<Vec<u8>> {
    let seeds = [
        "--name\0a\0--data-dir=/d\0-heartbeat-interval=100\0--listen-client-urls\0http://127.0.0.1:1,unix://b\0--advertise-client-urls=http://a:1\0--initial-cluster=a=http://localhost:2380\0--pre-vote=F\0--auto-compaction-retention=5m\0\0ETCD_ELECTION_TIMEOUT=1000\0ETCD_LISTEN_METRICS_URLS=http://127.0.0.1:2381",
        "--experimental-initial-corrupt-check=true\0--experimental-watch-progress-notify-interval=5s\0--feature-gates=AllBeta=true\0--cipher-suites=TLS_AES_128_GCM_SHA256,X\0--auto-tls\0--self-signed-cert-validity=3\0\0ETCD_CORS=*\0ETCD_QUOTA_BACKEND_BYTES=0x10",
        "--\0-h\0---x\0--=3\0-\0--v2-deprecation=write-only\0--grpc-keepalive-min-time\x001h2m3.5s\0\0ETCD_X=1",
    ];
    seeds.map(|seed| seed.as_bytes().to_vec()).to_vec()
}

pub fn line_seeds() -> Vec<Vec<u8>> {
    let seeds: [&[u8]; 8] = [
        br#"mod("key1") > "0""#,
        br#"val("a\x00\u00e9\U0001f600\101") != `x y`"#,
        br#"lease("a") = "1f""#,
        br#"put key1 "a \"b\"" --prev-kv --lease=1f"#,
        br#"get a 'b c' --limit 3 --order=DESCEND --sort-by KEY"#,
        br#"del "" --from-key --prev-kv"#,
        br#"watch a b --rev=5 --prefix -- echo "hi there""#,
        "watch \u{e9} --progress-notify=\u{200b}".as_bytes(),
    ];
    seeds.map(<[u8]>::to_vec).to_vec()
}

/// A zero byte ends each word.
pub fn words(data: &[u8]) {
    let words: Vec<Vec<u8>> = data.split(|&byte| byte == 0).map(<[u8]>::to_vec).collect();
    etcdctl::commands::fuzzing::command_line(&words);
}

pub fn word_seeds() -> Vec<Vec<u8>> {
    let seeds = [
        "-w\0json\0get\0a\0--prefix\0-keys-only\0--limit=3\0--endpoints\0a:1,b:2",
        "wat\0-i\0a\0--\0echo\0x",
        "lease\0keep-alive\0--once\x001f",
        "member\0add\0n\0--peer-urls=http://a:1,http://b:2\0--learner",
        "endpoint\0--cluster\0status\0-wtable",
        "help\0snapshot\0save",
        "--command-timeout\x005s\0put\0a\0--ignore-value=false",
        "xyz\0--foo",
    ];
    seeds.map(|seed| seed.as_bytes().to_vec()).to_vec()
}

pub fn value_seeds() -> Vec<Vec<u8>> {
    let seeds = [
        "-12",
        "0x_1f",
        "0b101",
        "0o17",
        "1_000",
        "9223372036854775808",
        "1h2m3.5s",
        "1.5µs",
        "-0.1ms",
        "TRUE",
    ];
    seeds.map(|seed| seed.as_bytes().to_vec()).to_vec()
}
