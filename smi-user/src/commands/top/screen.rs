//! The terminal, from taking hold of it to giving it back: at the end, on the signals that end a program, and on panic.
//!
//! A thread of its own draws and reads keys. Only it waits for the terminal, and not within the kernel: a thread that
//! waits in `write(2)` would keep every other from giving the terminal back.

use std::{
    io::{self, BufWriter},
    panic,
    sync::{
        Arc, Mutex, Once, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, ThreadId},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use ratatui::{
    Frame, Terminal,
    backend::CrosstermBackend,
    crossterm::{
        cursor,
        event::{self, Event},
        queue,
        terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
    },
    layout::Rect,
};
use tokio::{sync::oneshot, time::timeout};

use crate::kernel::terminal::{Writer, in_foreground, stop_this_process, wait_for_input};

/// How often the thread looks whether something else than a key asks for a new picture.
const LOOK: Duration = Duration::from_millis(100);

/// How long the thread may take to give the terminal back before another thread does it: longer than it takes where the
/// terminal takes nothing.
const PATIENCE: Duration = Duration::from_secs(2);

/// The terminal, opened once: what it takes to open it may be given up.
static OUTPUT: OnceLock<Writer> = OnceLock::new();

/// The terminal is in the screen's hands.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// It is being given back.
static GIVING: Mutex<()> = Mutex::new(());

/// Some thread panicked: the screen gives the terminal back and does not take it again.
static PANICKED: AtomicBool = AtomicBool::new(false);

/// What is on the screen.
pub trait Content: Send {
    /// Whether there is anything new to draw; asked ten times a second.
    fn changed(&mut self) -> bool;

    /// Draws all of it.
    fn draw(&mut self, frame: &mut Frame<'_>);

    /// Takes a key or another event of the terminal.
    fn event(&mut self, event: &Event) -> Flow;
}

/// What comes after an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// The next one.
    Go,
    /// The screen ends.
    Quit,
    /// The process stops until it is continued.
    Suspend,
}

/// What other threads want of the screen.
#[derive(Debug, Default)]
struct Wanted {
    quit: AtomicBool,
    suspend: AtomicBool,
    again: AtomicBool,
}

impl Wanted {
    /// Whether the screen is to end.
    fn end(&self) -> bool {
        self.quit.load(Ordering::Relaxed) || PANICKED.load(Ordering::SeqCst)
    }
}

/// What is drawn, on its way to the terminal. Where that takes nothing, what is left is thrown away once the terminal is
/// wanted back: nobody will see it.
struct Drawn {
    output: &'static Writer,
    wanted: Arc<Wanted>,
}

impl io::Write for Drawn {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = 0;
        while written < bytes.len() {
            written += self.output.write(&bytes[written..])?;
            if self.wanted.end() || self.wanted.suspend.load(Ordering::Relaxed) {
                break;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A screen in use. Dropping it gives the terminal back.
#[derive(Debug)]
pub struct Screen {
    wanted: Arc<Wanted>,
    /// Taken once it has told.
    ended: Option<oneshot::Receiver<io::Result<()>>>,
}

impl Screen {
    /// Takes hold of the terminal and shows `content`.
    ///
    /// # Errors
    /// When the terminal cannot be set up, or the thread not be started.
    pub fn open(content: impl Content + 'static) -> Result<Self> {
        let wanted = Arc::new(Wanted::default());
        let (done, ended) = oneshot::channel();
        // Made first, so that everything below gives the terminal back when it fails.
        let screen = Self {
            wanted: Arc::clone(&wanted),
            ended: Some(ended),
        };
        take().context("cannot set up the terminal")?;
        let drawn = Drawn {
            output: output()?,
            wanted: Arc::clone(&wanted),
        };
        // A buffer, so that a frame is one write.
        let output = BufWriter::with_capacity(1 << 16, drawn);
        let terminal = Terminal::new(CrosstermBackend::new(output))
            .context("cannot learn the terminal's size")?;
        let (ready, started) = std::sync::mpsc::sync_channel::<()>(1);
        let thread = thread::Builder::new()
            .name("smilat/screen".to_owned())
            .spawn(move || {
                // The hook must know this thread before anything is drawn.
                if started.recv().is_err() {
                    return;
                }
                let shown = show(terminal, content, &wanted);
                give_back();
                let _unheard = done.send(shown);
            })
            .context("cannot start the thread that draws")?;
        restore_on_panic(thread.thread().id());
        let _ended = ready.send(());
        Ok(screen)
    }

    /// Returns once the screen has ended by itself: the user quit, or the terminal failed. At once when it had before.
    ///
    /// # Errors
    /// When the terminal failed, or the thread panicked.
    pub async fn ended(&mut self) -> Result<()> {
        let Some(waiting) = &mut self.ended else {
            return Ok(());
        };
        let ended = waiting.await;
        self.ended = None;
        // After a panic its message has been printed.
        ended
            .context("the thread that draws panicked")?
            .context("the terminal failed")
    }

    /// Gives the terminal back, stops this process, and takes it again once continued.
    pub fn suspend(&self) {
        self.wanted.suspend.store(true, Ordering::Relaxed);
    }

    /// Sets the terminal up again and draws everything: others may have used it meanwhile.
    pub fn again(&self) {
        self.wanted.again.store(true, Ordering::Relaxed);
    }

    /// Gives the terminal back, and returns when that is done, even if it takes no output.
    pub async fn close(mut self) {
        self.wanted.quit.store(true, Ordering::Relaxed);
        if let Some(ended) = self.ended.take() {
            let _too_late = timeout(PATIENCE, ended).await;
        }
        // `drop` does the rest where the thread did not.
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.wanted.quit.store(true, Ordering::Relaxed);
        give_back();
    }
}

/// Draws and takes events until either ends it.
fn show<W: io::Write>(
    mut terminal: Terminal<CrosstermBackend<W>>,
    mut content: impl Content,
    wanted: &Wanted,
) -> io::Result<()> {
    let mut redraw = false;
    while !wanted.end() {
        if wanted.suspend.swap(false, Ordering::Relaxed) {
            give_back();
            stop_this_process();
            wanted.again.store(true, Ordering::Relaxed);
        }
        if !in_foreground() {
            // Continued without the terminal, as by `bg` or `kill %1`: touching it would stop this process again.
            wanted.again.store(true, Ordering::Relaxed);
            thread::sleep(LOOK);
            continue;
        }
        if wanted.again.swap(false, Ordering::Relaxed) {
            give_back();
            take()?;
            // Not `clear`, which asks the terminal where its cursor is: not every one answers.
            let size = terminal.size()?;
            terminal.resize(Rect::from(size))?;
            redraw = true;
        }
        if content.changed() || redraw {
            redraw = false;
            terminal.draw(|frame| content.draw(frame))?;
        }
        let is_input = wait_for_input(LOOK)?;
        let mut is_event = false;
        // All that wait, so that one frame answers them. Not waited for there: of a terminal that hangs up, the library
        // would read for ever.
        while event::poll(Duration::ZERO)? {
            is_event = true;
            match content.event(&event::read()?) {
                Flow::Go => {}
                Flow::Quit => return Ok(()),
                Flow::Suspend => {
                    wanted.suspend.store(true, Ordering::Relaxed);
                    break;
                }
            }
        }
        if is_input && !is_event {
            // The beginning of something.
            thread::sleep(LOOK);
        }
    }
    Ok(())
}

/// The terminal.
fn output() -> io::Result<&'static Writer> {
    if let Some(output) = OUTPUT.get() {
        return Ok(output);
    }
    let opened = Writer::open()?;
    Ok(OUTPUT.get_or_init(|| opened))
}

/// Takes hold of the terminal.
fn take() -> io::Result<()> {
    let output = output()?;
    enable_raw_mode()?;
    TAKEN.store(true, Ordering::SeqCst);
    let mut codes = Vec::new();
    queue!(codes, EnterAlternateScreen, cursor::Hide)?;
    output.write_at_once(&codes)
}

/// Gives the terminal back as it was found; nothing when it is not taken. Nobody could be told of a failure: the
/// terminal is gone then.
fn give_back() {
    // Who comes second waits until it is done: the program may end then.
    let _one = GIVING.lock().unwrap_or_else(PoisonError::into_inner);
    if !TAKEN.swap(false, Ordering::SeqCst) {
        return;
    }
    let mut codes = Vec::new();
    if let Ok(output) = output()
        && queue!(codes, LeaveAlternateScreen, cursor::Show).is_ok()
    {
        let _gone = output.write_at_once(&codes);
    }
    // Where others have it, it is set up as they want it.
    if in_foreground() {
        let _gone = disable_raw_mode();
    }
}

/// Has every panic, of whatever thread, give the terminal back before it is told.
fn restore_on_panic(screen: ThreadId) {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let tell = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PANICKED.store(true, Ordering::SeqCst);
            if thread::current().id() != screen {
                // It may be in the middle of a frame: let it finish.
                let began = Instant::now();
                while TAKEN.load(Ordering::SeqCst) && began.elapsed() < PATIENCE {
                    thread::sleep(Duration::from_millis(5));
                }
            }
            give_back();
            tell(info);
        }));
    });
}
