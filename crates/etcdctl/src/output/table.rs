//! Rows: drawn as a box, or joined with commas by the simple format.

use golang::number::human_bytes;
use golang::table::draw;

use super::Answer;

type Rows = (&'static [&'static str], Vec<Vec<String>>);

/// `None`: this answer has no such form.
pub fn render(answer: &Answer<'_>) -> Option<String> {
    let (headings, rows) = rows(answer)?;
    Some(draw(headings, &rows))
}

pub fn rows(answer: &Answer<'_>) -> Option<Rows> {
    Some(match answer {
        Answer::MemberList(r) => {
            let headings = &["ID", "STATUS", "NAME", "PEER ADDRS", "CLIENT ADDRS", "IS LEARNER"];
            let row = |member: &proto::etcdserverpb::Member| {
                let status = if member.name.is_empty() { "unstarted" } else { "started" };
                vec![
                    format!("{:x}", member.id),
                    status.into(),
                    member.name.clone(),
                    member.peer_ur_ls.join(","),
                    member.client_ur_ls.join(","),
                    member.is_learner.to_string(),
                ]
            };
            (headings, r.members.iter().map(row).collect())
        }
        Answer::EndpointHealth(all) => {
            let row = |health: &super::answer::Health| {
                let (endpoint, error) = (health.endpoint.clone(), health.error.clone());
                vec![endpoint, health.healthy.to_string(), health.took(), error]
            };
            (&["ENDPOINT", "HEALTH", "TOOK", "ERROR"], all.iter().map(row).collect())
        }
        Answer::EndpointStatus(all) => {
            let headings = &[
                "ENDPOINT",
                "ID",
                "VERSION",
                "STORAGE VERSION",
                "DB SIZE",
                "IN USE",
                "PERCENTAGE NOT IN USE",
                "QUOTA",
                "IS LEADER",
                "IS LEARNER",
                "RAFT TERM",
                "RAFT INDEX",
                "RAFT APPLIED INDEX",
                "ERRORS",
                "DOWNGRADE TARGET VERSION",
                "DOWNGRADE ENABLED",
            ];
            (headings, all.iter().map(|(endpoint, r)| status_row(endpoint, r)).collect())
        }
        Answer::EndpointHashKv(all) => {
            let row = |(endpoint, r): &(String, proto::etcdserverpb::HashKvResponse)| {
                vec![endpoint.clone(), r.hash.to_string(), r.hash_revision.to_string()]
            };
            (&["ENDPOINT", "HASH", "HASH REVISION"], all.iter().map(row).collect())
        }
        _ => return None,
    })
}

fn status_row(endpoint: &str, r: &proto::etcdserverpb::StatusResponse) -> Vec<String> {
    let size = |bytes: i64| human_bytes(bytes.unsigned_abs());
    let member_id = r.header.as_ref().map_or(0, |header| header.member_id);
    let used_percent = (r.db_size_in_use.saturating_mul(100)).checked_div(r.db_size).unwrap_or(100);
    let downgrade = r.downgrade_info.clone().unwrap_or_default();
    vec![
        endpoint.to_owned(),
        format!("{member_id:x}"),
        r.version.clone(),
        r.storage_version.clone(),
        size(r.db_size),
        size(r.db_size_in_use),
        format!("{}%", 100 - used_percent),
        size(r.db_size_quota),
        (r.leader == member_id).to_string(),
        r.is_learner.to_string(),
        r.raft_term.to_string(),
        r.raft_index.to_string(),
        r.raft_applied_index.to_string(),
        r.errors.join(", "),
        downgrade.target_version,
        downgrade.enabled.to_string(),
    ]
}
