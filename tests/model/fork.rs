//! The repository that git inputs are of: what happens in it without a change of files, and branches.

use crate::play::Play;
use crate::random::Random;
use crate::tree::Node;

/// Which of two branches a working copy is on, and what the other one holds.
#[derive(Clone, Debug, Default)]
pub struct Branch {
    is_other: bool,
    other: Option<Vec<(String, Node)>>,
}

impl Play {
    pub fn git(&self, worktree: &str, args: &[&str]) {
        let mut git = std::process::Command::new("git");
        git.current_dir(self.rig.worktree(worktree).join("fork")).args(args).env_clear().env("PATH", "/usr/bin:/bin");
        git.env("HOME", self.rig.at("home"));
        for (name, value) in [("NAME", "somebody"), ("EMAIL", "somebody@example.org")] {
            git.env(format!("GIT_AUTHOR_{name}"), value).env(format!("GIT_COMMITTER_{name}"), value);
        }
        let output = git.output().expect("git starts");
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// What happens in the repository and changes no file.
    pub fn edit_fork(&mut self, at: usize, random: &mut Random) -> Option<String> {
        if !self.kind.git {
            return None;
        }
        let name = self.trees[at].name.clone();
        if random.chance(50) {
            self.git(&name, &["add", "-A"]);
            return Some("git add".to_owned());
        }
        self.git(&name, &["add", "-A"]);
        self.git(&name, &["commit", "-qm", "more", "--allow-empty"]);
        if random.chance(40) {
            return Some("git commit".to_owned());
        }
        let is_tracked =
            |path: &str, node: &Node| path.starts_with("fork/") && !path.ends_with(".o") && *node != Node::Dir;
        let Branch { is_other, other } = self.branches[at].clone();
        let sources = &mut self.trees[at].sources;
        let of_branch: Vec<(String, Node)> =
            sources.0.iter().filter(|(p, n)| is_tracked(p, n)).map(|(p, n)| (p.clone(), n.clone())).collect();
        if let Some(there) = other {
            sources.0.retain(|path, node| !is_tracked(path, node));
            there.into_iter().for_each(|(path, node)| sources.put(&path, node));
            self.git(&name, &["switch", "-q", if is_other { "main" } else { "other" }]);
        } else {
            self.git(&name, &["switch", "-qc", "other"]);
        }
        self.branches[at] = Branch { is_other: !is_other, other: Some(of_branch) };
        Some("git switch".to_owned())
    }
}
