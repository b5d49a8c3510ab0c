//! A terminal for tests: a shell in tmux, on a server of its own.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// How long a test waits for what must appear.
const PATIENCE: Duration = Duration::from_secs(30);

/// From one look at the terminal to the next.
const LOOK: Duration = Duration::from_millis(30);

/// What the shell says when it is ready.
const PROMPT: &str = "READY>";

/// A terminal with a shell. The server ends with it.
pub struct Tmux {
    folder: TempDir,
}

impl Tmux {
    /// One of this size, with these variables beside those of the test.
    ///
    /// # Panics
    /// When it cannot be had.
    #[track_caller]
    pub fn new(width: u16, height: u16, variables: &[&str]) -> Self {
        let tmux = Self {
            folder: tempfile::tempdir().expect("a folder"),
        };
        let shell = format!("env {} PS1='{PROMPT} ' sh -i", variables.join(" "));
        let size = [width.to_string(), height.to_string()];
        tmux.run(&["new-session", "-d", "-x", &size[0], "-y", &size[1], &shell]);
        tmux.wait_for_prompt();
        tmux
    }

    fn output(&self, args: &[&str]) -> Output {
        Command::new("tmux")
            .args(["-u", "-f", "/dev/null", "-S"])
            .arg(self.folder.path().join("socket"))
            .args(args)
            .env("LANG", "C.UTF-8")
            .env_remove("TMUX")
            .env_remove("NO_COLOR")
            .output()
            .expect("tmux; cargo xtask test host installs it")
    }

    /// Runs a command of tmux's and returns what it prints.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> String {
        let output = self.output(args);
        assert!(output.status.success(), "tmux {args:?}: {output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// Presses keys, by tmux's names.
    #[track_caller]
    pub fn press(&self, keys: &[&str]) {
        self.run(&[&["send-keys"], keys].concat());
    }

    /// Types a line and ends it.
    #[track_caller]
    pub fn line(&self, line: &str) {
        self.run(&["send-keys", "-l", line]);
        self.press(&["Enter"]);
    }

    /// Types a command for the shell, from a clean screen on.
    #[track_caller]
    pub fn command(&self, line: &str) {
        self.line(&format!("clear; {line}"));
    }

    /// What is on the screen.
    #[track_caller]
    pub fn screen(&self) -> String {
        self.run(&["capture-pane", "-p"])
    }

    /// What is on the screen, and what has left it at the top.
    #[track_caller]
    pub fn history(&self) -> String {
        self.run(&["capture-pane", "-p", "-S", "-"])
    }

    /// Whether a program has the screen to itself, and whether the cursor is shown.
    ///
    /// # Panics
    /// When tmux does not say.
    #[track_caller]
    pub fn flags(&self) -> (bool, bool) {
        let flags = self.run(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]);
        let mut flags = flags.split_whitespace().map(|flag| flag == "1");
        (
            flags.next().expect("a flag"),
            flags.next().expect("another"),
        )
    }

    /// Waits until the screen is as it should be, and returns it.
    ///
    /// # Panics
    /// When that takes more than 30 s.
    #[track_caller]
    pub fn wait(&self, what: &str, right: impl Fn(&str) -> bool) -> String {
        let began = Instant::now();
        loop {
            let screen = self.screen();
            if right(&screen) {
                return screen;
            }
            assert!(
                began.elapsed() < PATIENCE,
                "waited in vain for {what}:\n{screen}"
            );
            thread::sleep(LOOK);
        }
    }

    /// Waits until `text` is on the screen.
    #[track_caller]
    pub fn wait_for(&self, text: &str) -> String {
        self.wait(text, |screen| screen.contains(text))
    }

    /// Waits until the shell has the terminal again, as it should be: no program's screen, the cursor shown.
    ///
    /// # Panics
    /// When that takes more than 30 s.
    #[track_caller]
    pub fn wait_for_prompt(&self) -> String {
        let screen = self.wait("the prompt", |screen| {
            screen
                .trim_end()
                .lines()
                .last()
                .is_some_and(|line| line.trim_end() == PROMPT)
        });
        assert_eq!(self.flags(), (false, true), "{screen}");
        screen
    }

    /// The settings of the terminal, as `stty -a` tells them to the shell.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn stty(&self) -> String {
        let file: PathBuf = self.folder.path().join("stty");
        // Only what this command writes: an earlier prompt proves nothing.
        let _none = fs::remove_file(&file);
        let told = "the settings are written";
        self.command(&format!(
            "stty -a > {} && echo 'the settings' are written",
            file.display()
        ));
        self.wait(told, |screen| screen.lines().any(|line| line == told));
        self.wait_for_prompt();
        fs::read_to_string(file).expect("stty wrote")
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let _gone = self.output(&["kill-server"]);
    }
}
