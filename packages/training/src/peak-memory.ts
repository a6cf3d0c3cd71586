import { readFileSync, writeFileSync } from 'node:fs';

/**
 * Resets {@link peakMemoryBytes}, so that it no longer counts what this process did before. In a sandbox without
 * /proc/self/clear_refs nothing is reset.
 */
export function resetPeakMemory(): void {
  try {
    // 5: the high-water mark of the resident set becomes what is resident now (proc_pid_clear_refs(5)).
    writeFileSync('/proc/self/clear_refs', '5');
  } catch {
    // The peak stays that of the whole process.
  }
}

/**
 * Most memory of the host that was resident since {@link resetPeakMemory}; since the process started if that could not
 * reset it, or if there is no /proc/self/status. Freed memory that allocators hold is resident too: TensorFlow's (of oneDNN)
 * holds all that its tensors ever had. Memory of a GPU is not counted: neither TensorFlow's C API nor its addon reports it.
 */
export function peakMemoryBytes(): number {
  return (highWaterKilobytes() ?? process.resourceUsage().maxRSS) * 1024;
}

function highWaterKilobytes(): number | null {
  try {
    const found = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'));
    return found === null ? null : Number(found[1]);
  } catch {
    return null;
  }
}
