//! The real thing in real processes: compile children and plugin processes, started the way the daemon starts them.

mod calls;
mod compiling;
mod crafted;
mod hostile;
mod images;
mod shut_in;
mod stage;
