//! A machine of its own: systemd as process 1 in a container of `systemd-nspawn`, over the host's `/usr`.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::shell::{Ran, run, wait_until};

/// Until systemd has started everything, or has stopped it.
const BOOT_LIMIT: Duration = Duration::from_secs(120);
const POWEROFF_LIMIT: Duration = Duration::from_secs(60);

/// User and group `etcd` inside.
pub const ETCD_ID: u32 = 990;
/// The machine's name and address.
pub const NAME: &str = "controller-0";
pub const ADDRESS: &str = "10.99.0.11";

/// How nspawn ends when the machine asks for a reboot: whoever started it is to start it again.
const REBOOT_CODE: i32 = 133;

pub struct Machine {
    nspawn: Child,
    root: TempDir,
    programs: PathBuf,
}

/// Whether machines can be had here; the reason if not. Tried with a bare one, as that depends on much: rights,
/// control groups, what the kernel lets containers do.
pub fn is_possible(programs: &Path) -> Result<(), String> {
    if !run(Command::new("id").arg("-u"))?.stdout.starts_with("0\n") {
        return Err("only root may start machines".to_owned());
    }
    Machine::boot(programs, |_| Ok(())).map(drop)
}

impl Machine {
    /// Lays out a root folder, lets `furnish` add to it, and boots with `programs` as `/usr/local/bin`.
    pub fn boot(
        programs: &Path,
        furnish: impl FnOnce(&Path) -> Result<(), String>,
    ) -> Result<Machine, String> {
        let root = TempDir::new().map_err(|error| error.to_string())?;
        lay_out(root.path()).map_err(|error| format!("lay out a root folder: {error}"))?;
        furnish(root.path())?;
        let nspawn = power_on(root.path(), programs)?;
        let machine = Machine { nspawn, root, programs: programs.to_owned() };
        machine.wait_until_up().map_err(|error| format!("{error}\n{}", machine.console()))?;
        Ok(machine)
    }

    /// Runs a program inside.
    pub fn run(&self, words: &[&str]) -> Result<Ran, String> {
        let leader = self.leader().ok_or("the machine is down")?;
        let leader = leader.to_string();
        run(Command::new("nsenter").args(["--target", &leader, "--all", "--"]).args(words))
    }

    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// Through shutdown and a new start, as `systemctl reboot` does it.
    pub fn reboot(&mut self) -> Result<(), String> {
        // Its own connection may be cut before it has its answer.
        self.run(&["systemctl", "reboot", "--no-block"])?;
        let status = wait_until("the machine goes down", POWEROFF_LIMIT, || {
            self.nspawn.try_wait().map_err(|error| error.to_string())
        })?;
        if status.code() != Some(REBOOT_CODE) {
            return Err(format!("the machine ended with {status} instead of a reboot\n{}", self.console()));
        }
        self.nspawn = power_on(self.root.path(), &self.programs)?;
        self.wait_until_up()
    }

    fn wait_until_up(&self) -> Result<(), String> {
        wait_until("the machine boots", BOOT_LIMIT, || {
            if self.leader().is_none() {
                return Ok(None);
            }
            let state = self.run(&["systemctl", "is-system-running"])?.line();
            Ok(matches!(state.as_str(), "running" | "degraded").then_some(()))
        })
    }

    /// Process 1 of the machine, by its number outside.
    fn leader(&self) -> Option<u32> {
        let id = self.nspawn.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
        let is_systemd = |child: &u32| {
            fs::read_to_string(format!("/proc/{child}/comm")).is_ok_and(|name| name.trim() == "systemd")
        };
        children.split_whitespace().filter_map(|child| child.parse().ok()).find(is_systemd)
    }

    fn console(&self) -> String {
        let text = fs::read_to_string(self.root.path().join("console")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Told so, nspawn shuts the machine down in order.
        let id = self.nspawn.id().to_string();
        let _told = run(Command::new("kill").args(["-TERM", &id]));
        let gone = wait_until("the machine ends", POWEROFF_LIMIT, || {
            Ok(self.nspawn.try_wait().map_err(|error| error.to_string())?.map(|_| ()))
        });
        if gone.is_err() {
            let _killed = self.nspawn.kill();
            let _reaped = self.nspawn.wait();
        }
    }
}

fn power_on(root: &Path, programs: &Path) -> Result<Child, String> {
    let console = fs::File::create(root.join("console")).map_err(|error| error.to_string())?;
    Command::new("systemd-nspawn")
        .args(["--register=no", "--keep-unit", "--private-network", "--console=pipe", "--quiet"])
        .arg(format!("--machine={NAME}"))
        .arg("--directory")
        .arg(root)
        .arg("--bind-ro=/usr")
        .arg(format!("--bind-ro={}:/usr/local/bin", programs.display()))
        .arg("--boot")
        .stdin(Stdio::null())
        .stdout(console.try_clone().map_err(|error| error.to_string())?)
        .stderr(console)
        .spawn()
        .map_err(|error| format!("start systemd-nspawn: {error}"))
}

/// What systemd needs to find before anything else.
fn lay_out(root: &Path) -> std::io::Result<()> {
    for folder in
        ["etc/systemd/system", "var/log/journal", "var/lib", "run", "tmp", "usr", "proc", "sys", "dev"]
    {
        fs::create_dir_all(root.join(folder))?;
    }
    for folder in ["bin", "sbin", "lib", "lib64"] {
        symlink(format!("usr/{folder}"), root.join(folder))?;
    }
    let etc = |name: &str| -> PathBuf { root.join("etc").join(name) };
    fs::write(etc("os-release"), "ID=test\n")?;
    fs::write(etc("hostname"), format!("{NAME}\n"))?;
    fs::write(etc("hosts"), format!("127.0.0.1 localhost\n{ADDRESS} {NAME}\n"))?;
    fs::write(etc("nsswitch.conf"), "passwd: files\ngroup: files\nhosts: files\n")?;
    fs::write(etc("machine-id"), "")?;
    let users = [("root", 0), ("messagebus", 100), ("etcd", ETCD_ID), ("nobody", 65534)];
    let lines = users.map(|(name, id)| format!("{name}:x:{id}:{id}::/:/bin/false\n"));
    fs::write(etc("passwd"), lines.concat())?;
    fs::write(etc("group"), users.map(|(name, id)| format!("{name}:x:{id}:\n")).concat())?;
    symlink("/usr/lib/systemd/system/multi-user.target", etc("systemd/system/default.target"))?;
    // Private networks have nothing but the loopback device.
    let address = format!(
        "[Unit]\nBefore=etcd.service network-online.target\n[Service]\nType=oneshot\nRemainAfterExit=yes\n\
         ExecStart=/usr/sbin/ip address add {ADDRESS}/32 dev lo\n[Install]\nWantedBy=multi-user.target\n"
    );
    fs::write(etc("systemd/system/address.service"), address)?;
    fs::create_dir_all(etc("systemd/system/multi-user.target.wants"))?;
    symlink("../address.service", etc("systemd/system/multi-user.target.wants/address.service"))
}

/// Gives a folder and its files to the user etcd, for its eyes only.
pub fn hand_to_etcd(folder: &Path) -> Result<(), String> {
    let all = || -> std::io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            chown(&path, Some(ETCD_ID), Some(ETCD_ID))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        }
        chown(folder, Some(ETCD_ID), Some(ETCD_ID))
    };
    all().map_err(|error| format!("{}: {error}", folder.display()))
}
