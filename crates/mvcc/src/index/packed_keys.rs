//! Sorted keys in one buffer: two allocations for a whole node, and a copy of the node is a `memcpy`.

#[derive(Clone, Debug, Default)]
pub struct PackedKeys {
    bytes: Vec<u8>,
    /// Where each key ends in `bytes`. A node holds few keys, and a key is at most a request long.
    ends: Vec<u32>,
}

impl PackedKeys {
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    fn start(&self, at: usize) -> usize {
        if at == 0 { 0 } else { self.ends[at - 1] as usize }
    }

    pub fn get(&self, at: usize) -> &[u8] {
        &self.bytes[self.start(at)..self.ends[at] as usize]
    }

    /// Where the key is, or where it belongs.
    pub fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = (low + high) / 2;
            match self.get(middle).cmp(key) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Ok(middle),
            }
        }
        Err(low)
    }

    /// How many keys are less than `key`.
    pub fn count_below(&self, key: &[u8]) -> usize {
        self.search(key).unwrap_or_else(|at| at)
    }

    pub fn insert(&mut self, at: usize, key: &[u8]) {
        let start = self.start(at);
        let old_len = self.bytes.len();
        if self.bytes.capacity() - old_len < key.len() {
            // Grow by an eighth, not to the double: a million keys pay for every spare byte.
            self.bytes.reserve_exact(key.len() + old_len / 8);
        }
        self.bytes.resize(old_len + key.len(), 0);
        self.bytes.copy_within(start..old_len, start + key.len());
        self.bytes[start..start + key.len()].copy_from_slice(key);
        self.ends.insert(at, start as u32);
        for end in &mut self.ends[at..] {
            *end += key.len() as u32;
        }
    }

    pub fn push(&mut self, key: &[u8]) {
        self.bytes.extend_from_slice(key);
        self.ends.push(self.bytes.len() as u32);
    }

    pub fn remove(&mut self, at: usize) {
        let (start, end) = (self.start(at), self.ends[at] as usize);
        self.bytes.drain(start..end);
        self.ends.remove(at);
        for later in &mut self.ends[at..] {
            *later -= (end - start) as u32;
        }
    }

    /// Takes away the keys from `at` on.
    pub fn split_off(&mut self, at: usize) -> PackedKeys {
        let start = self.start(at);
        let ends = self.ends.split_off(at).into_iter().map(|end| end - start as u32).collect();
        let right = PackedKeys { bytes: self.bytes.split_off(start), ends };
        self.bytes.shrink_to_fit();
        self.ends.shrink_to_fit();
        right
    }

    pub fn append(&mut self, other: &PackedKeys) {
        for at in 0..other.len() {
            self.push(other.get(at));
        }
    }

    /// Bytes allocated.
    #[cfg(test)]
    pub fn heap_bytes(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behaves_as_a_vector_of_keys() {
        let mut keys = PackedKeys::default();
        for key in ["m", "", "zz", "aaa", "mm"] {
            let at = keys.search(key.as_bytes()).unwrap_err();
            keys.insert(at, key.as_bytes());
        }
        let all = |keys: &PackedKeys| {
            (0..keys.len()).map(|at| String::from_utf8(keys.get(at).to_vec()).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(all(&keys), ["", "aaa", "m", "mm", "zz"]);
        assert_eq!((keys.search(b"mm"), keys.search(b"b"), keys.count_below(b"n")), (Ok(3), Err(2), 4));
        let right = keys.split_off(2);
        assert_eq!(
            (all(&keys), all(&right)),
            (vec!["".into(), "aaa".into()], vec!["m".to_string(), "mm".into(), "zz".into()])
        );
        keys.append(&right);
        keys.remove(1);
        keys.remove(3);
        assert_eq!(all(&keys), ["", "m", "mm"]);
    }
}
