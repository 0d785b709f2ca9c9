//! One file a verb: an args struct whose doc comment is the help, one library call, and output.

pub(crate) mod build;
pub(crate) mod check;
mod filter;
pub(crate) mod history;
pub(crate) mod images;
pub(crate) mod import;
pub(crate) mod info;
pub(crate) mod inspect;
pub(crate) mod load;
pub(crate) mod login;
pub(crate) mod logout;
pub(crate) mod ps;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod rm;
pub(crate) mod rmi;
pub(crate) mod run;
pub(crate) mod save;
pub(crate) mod serve;
mod state;
pub(crate) mod tag;
pub(crate) mod version;
