//! Network and mount namespaces: each is held by a process that dies with the test, and is gone
//! with it.

use std::process::{Child, Command, Stdio};

use super::{program, tool, try_tool, until};

/// A machine on a network of the test's own.
pub struct Machine {
    holder: Child,
}

impl Machine {
    /// A machine without a network yet; none, and the test is skipped, where we may not.
    pub fn start() -> Option<Machine> {
        let (may, why) = try_tool(&["unshare", "--net", "--mount", "true"]);
        if !may {
            testbed::skip_or_fail(format!("network namespaces need root: {why}"));
            return None;
        }
        // The kernel kills the holder when the test's thread ends, however it does.
        let holder = Command::new("unshare")
            .args(["--net", "--mount", "setpriv", "--pdeathsig", "KILL", "sh", "-c"])
            .arg("ip link set lo up; echo up; exec sleep infinity")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare, of util-linux");
        let mut machine = Machine { holder };
        let mut stdout = machine.holder.stdout.take().expect("its output");
        let mut up = [0; 3];
        std::io::Read::read_exact(&mut stdout, &mut up).expect("the machine is up");
        Some(machine)
    }

    fn pid(&self) -> String {
        self.holder.id().to_string()
    }

    /// A cable between two machines, called `eth0` at both ends, with an address each.
    pub fn connect(&self, other: &Machine, here: &[&str], there: &[&str]) {
        let (one, two) = (self.pid(), other.pid());
        self.run(&[
            "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", &two,
        ]);
        for (pid, machine, addresses) in [(one, self, here), (two, other, there)] {
            for address in addresses {
                let mut words = vec!["ip", "address", "add", address, "dev", "eth0"];
                if address.contains(':') {
                    words.push("nodad");
                }
                machine.run(&words);
            }
            tool(&["nsenter", "-t", &pid, "-n", "ip", "link", "set", "eth0", "up"]);
        }
        until("the cable is up", || self.run(&["ip", "link", "show", "eth0"]).contains("LOWER_UP"));
    }

    /// Runs a tool on it.
    #[track_caller]
    pub fn run(&self, words: &[&str]) -> String {
        let pid = self.pid();
        tool(&[&["nsenter", "-t", &pid, "-n", "-m"], words].concat())
    }

    /// Runs a tool on it; whether it went well.
    pub fn try_run(&self, words: &[&str]) -> bool {
        let pid = self.pid();
        try_tool(&[&["nsenter", "-t", &pid, "-n", "-m"], words].concat()).0
    }

    /// The command that starts a monitor on it.
    pub fn monitor(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.pid(), "-n", "-m", program()]);
        command
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
