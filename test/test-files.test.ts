import { execFileSync } from 'node:child_process';
import { expect, test } from 'vitest';
import * as emulated from './emulated/emulated-files.js';
import { IN_CI_ALONE, OF_THE_REPOSITORY } from './usual-files.mjs';

const { EXCLUDED_FILES: _, ...lists } = emulated;

test('each name in the lists of test files is that of a file or folder', () => {
  const patterns = [...Object.values(lists).flat(), ...IN_CI_ALONE, ...OF_THE_REPOSITORY];
  // Braces are expanded first, so that each of their names must match.
  const script = `for file in ${patterns.join(' ')}; do [ -e "$file" ] || echo "$file"; done`;
  expect(execFileSync('bash', ['-O', 'globstar', '-c', script], { encoding: 'utf8' })).toBe('');
});
