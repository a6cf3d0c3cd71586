import { readFileSync, writeFileSync } from 'node:fs';

/**
 * From here on {@link peakMemoryBytes} is of what comes, not of what this process did before. In a sandbox without
 * /proc/self/clear_refs nothing is reset.
 */
export function resetPeakMemory(): void {
  try {
    // 5: the high-water mark of the resident set becomes what is resident now (proc_pid_clear_refs(5)).
    writeFileSync('/proc/self/clear_refs', '5');
  } catch {
    // The peak is that of the whole process, as without a call.
  }
}

/**
 * Most memory of the host that was resident since {@link resetPeakMemory}; since the process began where that could not
 * reset it, or where there is no /proc/self/status. What allocators keep of freed memory is resident too: TensorFlow's (of
 * oneDNN) keeps all that its tensors ever had. What was taken of a GPU neither TensorFlow's C API nor its addon tells.
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
