//! What a run is told on the command line.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cluster::Program;
use crate::failure::{During, Outcome, fail};
use crate::lease_bound::Promise;
use crate::liar::{LIES, Lie};

pub const USAGE: &str = "\
chaos [options]
  --minutes N       how long faults come, all clusters together                    (3)
  --seed S          what is drawn: faults and calls; the first cluster has it, each further one more
  --members SPEC    size of a cluster (3), or its members by kind (go,ours,go); repeatable  (3 and 5)
  --etcd PATH       the etcd of all members; repeated: of one member after the other
  --go PATH         what `go` in --members means
  --go-3.6 PATH     what `go-3.6` in --members means: the release before
  --ours PATH       what `ours` in --members means
  --roll KINDS      no faults: all members begin as the first of these kinds (go-3.6,ours,go-3.6), and change
                    to the next, one after the other, each on the data that was left; --members are sizes
  --links KIND      direct, or proxied: through a proxy that can be slow           (by turns)
  --tls             TLS and client certificates on every port
  --flag FLAG       one more flag for every member, such as --pre-vote=false; repeatable
  --on-disk         data directories on a disk, not in memory: slower, so fewer calls
  --strict-leases   a lease that ends too early is a finding also after a change of leaders; etcd's may
  --out DIR         folder for histories, logs and data                            (target/chaos)
  --lie NAME        falsifies what clients see, to try the checkers: stale-reads, lose-put, drop-event,
                    repeat-event
  --check FILE      checks a history that was written before, and nothing else";

/// Length of one cluster's life, about.
const EPISODE: Duration = Duration::from_secs(100);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    Direct,
    Proxied,
}

#[derive(Clone, Debug)]
pub struct Options {
    pub time: Duration,
    pub seed: u64,
    /// The programs of each cluster to be tried.
    pub clusters: Vec<Vec<Program>>,
    pub links: Option<Links>,
    pub with_tls: bool,
    pub on_disk: bool,
    pub promise: Promise,
    pub flags: Vec<String>,
    pub out: PathBuf,
    pub lie: Option<Lie>,
    /// The programs that all members take, one after the other; none: faults come instead.
    pub roll: Vec<Program>,
    pub check: Option<PathBuf>,
    /// The words that say which programs, for a repetition.
    pub programs: String,
}

/// One cluster's life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Episode {
    pub seed: u64,
    /// Index into [`Options::clusters`].
    pub cluster: usize,
    pub links: Links,
    pub time: Duration,
}

impl Options {
    pub fn parse(arguments: &[String]) -> Outcome<Options> {
        let mut options = Options {
            time: Duration::from_secs(180),
            seed: seed_of_the_moment(),
            clusters: Vec::new(),
            links: None,
            with_tls: false,
            on_disk: false,
            promise: Promise::WithinOneTerm,
            flags: Vec::new(),
            out: PathBuf::from("target/chaos"),
            lie: None,
            roll: Vec::new(),
            check: None,
            programs: String::new(),
        };
        let (mut members, mut etcds) = (Vec::new(), Vec::<PathBuf>::new());
        let (mut go, mut go_3_6, mut ours) = (None, None, None);
        let mut roll = None;
        let mut arguments = arguments.iter();
        while let Some(flag) = arguments.next() {
            let mut value = || match arguments.next() {
                Some(value) => Ok(value.clone()),
                None => fail(format!("{flag} needs a value\n{USAGE}")),
            };
            match flag.as_str() {
                "--minutes" => options.time = minutes(&value()?)?,
                "--seed" => options.seed = value()?.parse().during("--seed")?,
                "--members" => members.push(value()?),
                "--etcd" => etcds.push(value()?.into()),
                "--go" => go = Some(PathBuf::from(value()?)),
                "--go-3.6" => go_3_6 = Some(PathBuf::from(value()?)),
                "--roll" => roll = Some(value()?),
                "--ours" => ours = Some(PathBuf::from(value()?)),
                "--links" => options.links = Some(links(&value()?)?),
                "--tls" => options.with_tls = true,
                "--strict-leases" => options.promise = Promise::Always,
                "--on-disk" => options.on_disk = true,
                "--flag" => options.flags.push(value()?),
                "--out" => options.out = value()?.into(),
                "--lie" => options.lie = Some(lie(&value()?)?),
                "--check" => options.check = Some(value()?.into()),
                "--help" => return fail(USAGE),
                _ => return fail(format!("unknown option {flag:?}\n{USAGE}")),
            }
        }
        if options.check.is_some() {
            return Ok(options);
        }
        if members.is_empty() {
            members = match etcds.len() {
                0 | 1 => vec!["3".to_owned(), "5".to_owned()],
                count => vec![count.to_string()],
            };
        }
        let kinds =
            Kinds { etcds: &etcds, go: go.as_deref(), go_3_6: go_3_6.as_deref(), ours: ours.as_deref() };
        if let Some(roll) = roll {
            options.roll = roll.split(',').map(|kind| kinds.kind(kind)).collect::<Outcome<_>>()?;
            if options.roll.len() < 2 {
                return fail(format!("--roll {roll}: nothing changes; two kinds at least"));
            }
        }
        options.clusters = members
            .iter()
            .map(|spec| match options.roll.first() {
                Some(first) => size(spec).map(|size| vec![first.clone(); size + 1]),
                None => kinds.cluster(spec),
            })
            .collect::<Outcome<_>>()?;
        options.programs = kinds.words();
        Ok(options)
    }

    /// The time divided among the clusters; each comes once at least.
    pub fn episodes(&self) -> Vec<Episode> {
        let kinds = self.clusters.len();
        if !self.roll.is_empty() {
            return self.rolls();
        }
        let fitting = (self.time.as_secs_f64() / EPISODE.as_secs_f64()).round() as usize;
        let count = fitting.max(kinds);
        let episode = |index: usize| Episode {
            seed: self.seed.wrapping_add(index as u64),
            cluster: index % kinds,
            // Sizes and links are not to go together.
            links: self.links.unwrap_or(match (index + index / kinds) % 2 {
                0 => Links::Direct,
                _ => Links::Proxied,
            }),
            time: self.time / u32::try_from(count).unwrap_or(u32::MAX),
        };
        (0..count).map(episode).collect()
    }

    /// Each size once; it takes the time that it takes.
    fn rolls(&self) -> Vec<Episode> {
        let episode = |index: usize| Episode {
            seed: self.seed.wrapping_add(index as u64),
            cluster: index,
            links: self.links.unwrap_or(Links::Direct),
            time: self.time,
        };
        (0..self.clusters.len()).map(episode).collect()
    }
}

struct Kinds<'a> {
    etcds: &'a [PathBuf],
    go: Option<&'a Path>,
    go_3_6: Option<&'a Path>,
    ours: Option<&'a Path>,
}

impl Kinds<'_> {
    /// The programs of a cluster's slots: one for each member, and one for the spare slot.
    fn cluster(&self, spec: &str) -> Outcome<Vec<Program>> {
        let mut programs = match spec.parse::<usize>() {
            Ok(_) => (0..size(spec)?).map(|index| self.any(index)).collect::<Outcome<Vec<_>>>()?,
            Err(_) => spec.split(',').map(|kind| self.kind(kind)).collect::<Outcome<Vec<_>>>()?,
        };
        if programs.len() < 3 {
            return fail(format!("{spec}: a cluster needs 3 members to be tried"));
        }
        programs.push(programs[0].clone());
        Ok(programs)
    }

    fn any(&self, index: usize) -> Outcome<Program> {
        match (self.etcds, self.ours, self.go) {
            ([], Some(ours), _) => program("ours", ours),
            ([], None, Some(go)) => program("go", go),
            ([], None, None) => fail(format!("no etcd to try: --etcd, --go or --ours\n{USAGE}")),
            (etcds, _, _) => {
                let path = &etcds[index % etcds.len()];
                program(&path.display().to_string(), path)
            }
        }
    }

    fn kind(&self, kind: &str) -> Outcome<Program> {
        let path = match kind {
            "go" => self.go,
            Program::GO_3_6 => self.go_3_6,
            "ours" => self.ours,
            _ => return fail(format!("{kind:?}: members are of the kinds go, {} and ours", Program::GO_3_6)),
        };
        match path {
            Some(path) => program(kind, path),
            None => fail(format!("{kind}: --{kind} must say where it is")),
        }
    }

    fn words(&self) -> String {
        let mut words: Vec<String> =
            self.etcds.iter().map(|path| format!("--etcd {}", path.display())).collect();
        words.extend(self.go.map(|path| format!("--go {}", path.display())));
        words.extend(self.go_3_6.map(|path| format!("--go-3.6 {}", path.display())));
        words.extend(self.ours.map(|path| format!("--ours {}", path.display())));
        words.join(" ")
    }
}

fn size(spec: &str) -> Outcome<usize> {
    match spec.parse() {
        Ok(size @ 3..=9) => Ok(size),
        Ok(size) => fail(format!("a cluster of {size}: 3 to 9 members can be tried")),
        Err(_) => fail(format!("{spec}: not a number of members")),
    }
}

fn program(name: &str, path: &Path) -> Outcome<Program> {
    let path = std::fs::canonicalize(path).during(path.display())?;
    let bytes = std::fs::read(&path).during(path.display())?;
    // Every Go program holds this mark, for `go version`.
    let mark = b"\xff Go buildinf:";
    let is_go = bytes.windows(mark.len()).any(|window| window == mark);
    Ok(Program { name: name.to_owned(), path, uses_libc: !is_go })
}

fn minutes(text: &str) -> Outcome<Duration> {
    match text.parse::<f64>() {
        Ok(minutes) if minutes > 0.0 && minutes < 1e6 => Ok(Duration::from_secs_f64(minutes * 60.0)),
        _ => fail(format!("--minutes {text}: not a length of time")),
    }
}

fn links(text: &str) -> Outcome<Links> {
    match text {
        "direct" => Ok(Links::Direct),
        "proxied" => Ok(Links::Proxied),
        _ => fail(format!("--links {text}: direct or proxied")),
    }
}

fn lie(text: &str) -> Outcome<Lie> {
    match LIES.iter().find(|(name, _)| *name == text) {
        Some((_, lie)) => Ok(*lie),
        None => fail(format!("--lie {text}: unknown\n{USAGE}")),
    }
}

fn seed_of_the_moment() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(1, |now| now.subsec_nanos().into()) % 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Outcome<Options> {
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        Options::parse(&words)
    }

    #[test]
    fn members_by_count_and_by_kind() {
        let here = std::env::current_exe().unwrap().display().to_string();
        let counted = parse(&format!("--etcd {here}")).unwrap();
        assert_eq!(counted.clusters.iter().map(Vec::len).collect::<Vec<_>>(), [4, 6]);
        let mixed = parse(&format!("--go {here} --ours {here} --members go,ours,go")).unwrap();
        let names: Vec<&str> = mixed.clusters[0].iter().map(|program| program.name.as_str()).collect();
        assert_eq!(names, ["go", "ours", "go", "go"]);
        for wrong in ["--members 3", "--members go,go,go", "--members 2", "--minutes 0", "--links both"] {
            assert!(parse(&format!("--ours {here} {wrong} --etcd /nowhere")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn programs_of_go_are_known_by_their_mark() {
        let folder = tempfile::tempdir().unwrap();
        let (go, other) = (folder.path().join("go"), folder.path().join("other"));
        std::fs::write(&go, b"ELF \xff Go buildinf: \0").unwrap();
        std::fs::write(&other, b"ELF libc.so.6").unwrap();
        assert!(!program("etcd", &go).unwrap().uses_libc);
        assert!(program("etcd", &other).unwrap().uses_libc);
    }

    #[test]
    fn rolling_clusters_begin_alike_and_each_size_comes_once() {
        let here = std::env::current_exe().unwrap().display().to_string();
        let text = format!("--go-3.6 {here} --ours {here} --roll go-3.6,ours,go-3.6 --minutes 30 --seed 4");
        let rolling = parse(&text).unwrap();
        assert_eq!(rolling.clusters.iter().map(Vec::len).collect::<Vec<_>>(), [4, 6]);
        assert!(rolling.clusters.iter().flatten().all(Program::is_3_6));
        let names: Vec<&str> = rolling.roll.iter().map(|program| program.name.as_str()).collect();
        assert_eq!(names, ["go-3.6", "ours", "go-3.6"]);
        assert_eq!(rolling.episodes().len(), 2);
        for wrong in ["--roll ours", "--roll go,ours", "--roll ours,go-3.7", "--members ours,ours,ours"] {
            assert!(parse(&format!("{text} {wrong}")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn time_is_divided_and_links_take_turns() {
        let here = std::env::current_exe().unwrap().display().to_string();
        let options = parse(&format!("--etcd {here} --minutes 7 --seed 5")).unwrap();
        let episodes = options.episodes();
        let links: Vec<Links> = episodes.iter().map(|episode| episode.links).collect();
        assert_eq!(links, [Links::Direct, Links::Proxied, Links::Proxied, Links::Direct]);
        assert_eq!(
            episodes[3],
            Episode { seed: 8, cluster: 1, links: Links::Direct, time: options.time / 4 }
        );
        let short = parse(&format!("--etcd {here} --minutes 1")).unwrap();
        assert_eq!(short.episodes().len(), 2, "each kind of cluster comes");
    }
}
