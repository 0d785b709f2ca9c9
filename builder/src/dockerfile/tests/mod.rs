//! Tests of the parser as a whole: corpora of BuildKit, golden error texts, hostile input, and cases of our own.

mod cases;
mod corpora;
mod golden;
mod hostile;
