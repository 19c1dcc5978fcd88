//! Golden outputs, as etcdctl 3.7.3 prints them.

use proto::etcdserverpb::*;
use proto::mvccpb::{Event, KeyValue};

use super::*;

fn header() -> Option<ResponseHeader> {
    Some(ResponseHeader { cluster_id: 0x10, member_id: 0x20, revision: 7, raft_term: 2 })
}

fn kv(key: &'static str, value: &'static str) -> KeyValue {
    let (key, value) = (key.into(), value.into());
    KeyValue { key, value, create_revision: 2, mod_revision: 7, version: 3, lease: 0x1f }
}

fn text(format: &str, hex: bool, answer: &Answer<'_>) -> String {
    String::from_utf8(Format::parse(format, hex).unwrap().render(answer).unwrap()).unwrap()
}

fn refusal(format: &str, answer: &Answer<'_>) -> Exit {
    Format::parse(format, false).unwrap().render(answer).unwrap_err()
}

#[test]
fn get() {
    let range = RangeResponse { header: header(), kvs: vec![kv("a", "<1>")], more: false, count: 1 };
    let answer = Answer::Get(&range);
    assert_eq!(text("simple", false, &answer), "a\n<1>\n");
    assert_eq!(text("simple", true, &answer), "\\x61\n\\x3c\\x31\\x3e\n");
    assert_eq!(
        text("json", false, &answer),
        "{\"header\":{\"cluster_id\":16,\"member_id\":32,\"revision\":7,\"raft_term\":2},\"kvs\":[{\"key\":\"YQ==\",\
         \"create_revision\":2,\"mod_revision\":7,\"version\":3,\"value\":\"PDE+\",\"lease\":31}],\"count\":1}\n"
    );
    assert_eq!(
        text("fields", false, &answer),
        "\"ClusterID\" : 16\n\"MemberID\" : 32\n\"Revision\" : 7\n\"RaftTerm\" : 2\n\"Key\" : \"a\"\n\
         \"CreateRevision\" : 2\n\"ModRevision\" : 7\n\"Version\" : 3\n\"Value\" : \"<1>\"\n\"Lease\" : 31\n\
         \"More\" : false\n\"Count\" : 1\n"
    );
    assert!(text("fields", true, &answer).contains("\"Lease\" : 000000000000001f\n"));
    assert_eq!(refusal("table", &answer), Exit::new(4, "table not supported as output format"));
}

#[test]
fn txn() {
    let range = RangeResponse { header: header(), kvs: vec![kv("a", "1")], more: false, count: 1 };
    let range = response_op::Response::ResponseRange(range);
    let put = response_op::Response::ResponsePut(PutResponse { header: None, prev_kv: Some(kv("b", "2")) });
    let responses = [range, put].map(|response| ResponseOp { response: Some(response) }).to_vec();
    let txn = TxnResponse { header: header(), succeeded: true, responses };
    assert_eq!(text("simple", false, &Answer::Txn(&txn)), "SUCCESS\n\na\n1\n\nOK\nb\n2\n");
    let json = text("json", false, &Answer::Txn(&txn));
    assert!(
        json.contains("\"succeeded\":true,\"responses\":[{\"Response\":{\"response_range\":{\"header\""),
        "{json}"
    );
    assert!(json.contains("{\"Response\":{\"response_put\":{\"prev_kv\":{\"key\":\"Yg==\""), "{json}");
}

#[test]
fn watch() {
    let delete = Event {
        r#type: 1,
        kv: Some(KeyValue { key: "a".into(), mod_revision: 8, ..Default::default() }),
        prev_kv: None,
    };
    let response =
        WatchResponse { header: header(), watch_id: 3, events: vec![delete], ..Default::default() };
    assert_eq!(text("simple", false, &Answer::Watch(&response)), "DELETE\na\n\n");
    assert_eq!(
        text("json", false, &Answer::Watch(&response)),
        "{\"Header\":{\"cluster_id\":16,\"member_id\":32,\"revision\":7,\"raft_term\":2},\"Events\":[{\"type\":1,\
         \"kv\":{\"key\":\"YQ==\",\"mod_revision\":8}}],\"CompactRevision\":0,\"Canceled\":false,\"Created\":false,\
         \"CancelReason\":\"\"}\n"
    );
}

#[test]
fn leases() {
    let gone = LeaseTimeToLiveResponse { header: header(), id: 0x123, ttl: -1, granted_ttl: 0, keys: vec![] };
    let gone = Answer::LeaseTimeToLive { response: &gone, keys: true };
    assert_eq!(text("simple", false, &gone), "lease 0000000000000123 already expired\n");
    assert!(text("json", false, &gone).ends_with("\"id\":291,\"ttl\":-1,\"granted-ttl\":0,\"keys\":null}\n"));
    let keys = vec!["a".into(), "b".into()];
    let alive = LeaseTimeToLiveResponse { header: header(), id: 1, ttl: 3, granted_ttl: 9, keys };
    assert_eq!(
        text("simple", false, &Answer::LeaseTimeToLive { response: &alive, keys: true }),
        "lease 0000000000000001 granted with TTL(9s), remaining(3s), attached keys([a b])\n"
    );
    let revoked = LeaseRevokeResponse { header: header() };
    let refused = refusal("protobuf", &Answer::LeaseRevoke { id: 1, response: &revoked });
    assert!(
        refused.message.unwrap().starts_with("marshal unsupported for type *clientv3.LeaseRevokeResponse (")
    );
}

#[test]
fn members() {
    let member = Member {
        id: 0xab,
        name: "m0".into(),
        peer_ur_ls: vec!["http://a:1".into()],
        client_ur_ls: vec!["http://a:2".into(), "http://a:3".into()],
        is_learner: false,
    };
    let list = MemberListResponse { header: header(), members: vec![member] };
    let answer = Answer::MemberList(&list);
    assert_eq!(text("simple", false, &answer), "ab, started, m0, http://a:1, http://a:2,http://a:3, false\n");
    assert_eq!(
        text("json", true, &answer),
        "{\"header\":{\"cluster_id\":\"10\",\"member_id\":\"20\",\"revision\":7,\"raft_term\":2},\"members\":[{\"ID\":\"ab\",\
         \"name\":\"m0\",\"peerURLs\":[\"http://a:1\"],\"clientURLs\":[\"http://a:2\",\"http://a:3\"]}]}\n"
    );
    assert_eq!(
        text("table", false, &answer),
        "┌────┬─────────┬──────┬────────────┬───────────────────────┬────────────┐\n\
         │ ID │ STATUS  │ NAME │ PEER ADDRS │     CLIENT ADDRS      │ IS LEARNER │\n\
         ├────┼─────────┼──────┼────────────┼───────────────────────┼────────────┤\n\
         │ ab │ started │   m0 │ http://a:1 │ http://a:2,http://a:3 │      false │\n\
         └────┴─────────┴──────┴────────────┴───────────────────────┴────────────┘\n"
    );
}

#[test]
fn endpoints() {
    let status = StatusResponse {
        header: header(),
        version: "3.7.3".into(),
        db_size: 24576,
        db_size_in_use: 16384,
        leader: 0x20,
        raft_index: 5,
        raft_term: 2,
        raft_applied_index: 5,
        storage_version: "3.7.0".into(),
        db_size_quota: 2147483648,
        downgrade_info: Some(DowngradeInfo::default()),
        ..Default::default()
    };
    let all = [("h:1".to_owned(), status)];
    assert_eq!(
        text("simple", false, &Answer::EndpointStatus(&all)),
        "h:1, 20, 3.7.3, 3.7.0, 25 kB, 16 kB, 34%, 2.1 GB, true, false, 2, 5, 5, , , false\n"
    );
    assert!(text("json", false, &Answer::EndpointStatus(&all)).ends_with("\"downgradeInfo\":{}}}]\n"));
    assert_eq!(text("json", false, &Answer::EndpointStatus(&[])), "null\n");
    assert_eq!(
        refusal("protobuf", &Answer::EndpointStatus(&all)).message.unwrap(),
        "protobuf not supported as output format"
    );
}
