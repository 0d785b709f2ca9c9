//! Circles among stages.

/// For each circle the edge that closes it, as `(node, n)`: the n-th edge of `node`. `edges[node]` are the nodes that it
/// needs.
pub(super) fn closing_edges(edges: &[Vec<usize>]) -> Vec<(usize, usize)> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Done,
    }
    let mut marks = vec![Mark::New; edges.len()];
    let mut closing = Vec::new();
    for start in 0..edges.len() {
        if marks[start] != Mark::New {
            continue;
        }
        marks[start] = Mark::Open;
        // A stack of its own: stages may come by the hundred thousand.
        let mut way = vec![(start, 0)];
        while let Some((node, next)) = way.last_mut() {
            let (from, edge) = (*node, *next);
            let Some(to) = edges[from].get(edge) else {
                marks[from] = Mark::Done;
                way.pop();
                continue;
            };
            *next += 1;
            match marks[*to] {
                Mark::Done => {}
                Mark::Open => closing.push((from, edge)),
                Mark::New => {
                    marks[*to] = Mark::Open;
                    way.push((*to, 0));
                }
            }
        }
    }
    closing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_circle_is_closed_by_one_edge() {
        assert_eq!(closing_edges(&[vec![1, 2], vec![2], vec![]]), []);
        assert_eq!(closing_edges(&[vec![0]]), [(0, 0)]);
        assert_eq!(closing_edges(&[vec![1], vec![2, 0], vec![2]]), [(2, 0), (1, 1)]);
    }

    #[test]
    fn a_long_chain_needs_no_deep_stack() {
        let mut edges: Vec<Vec<usize>> = (1..=1_000_000).map(|next| vec![next]).collect();
        edges.push(vec![0]);
        assert_eq!(closing_edges(&edges), [(1_000_000, 0)]);
    }
}
