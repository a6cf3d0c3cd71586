import { readFileSync, writeFileSync } from 'node:fs';
import { engine } from '@lorasmith/tensor';

/**
 * Resets {@link peakMemoryBytes}, so that it no longer counts what this process did before. In a sandbox without
 * /proc/self/clear_refs nothing is reset.
 */
export function resetPeakMemory(): void {
  engine.cuda?.resetPeakMemory();
  try {
    // 5: the high-water mark of the resident set becomes what is resident now (proc_pid_clear_refs(5)).
    writeFileSync('/proc/self/clear_refs', '5');
  } catch {
    // The peak stays that of the whole process.
  }
}

/**
 * The most memory that was in use since {@link resetPeakMemory}.
 *
 * On the CUDA engine that of the card, in tensors. On another, that of the host, as was resident; since the process started
 * if that could not be reset, or if there is no /proc/self/status. Freed memory that allocators hold is resident too:
 * TensorFlow's (of oneDNN) holds all that its tensors ever had. What TensorFlow's engine for GPUs uses of a card is not
 * counted: neither TensorFlow's C API nor its addon reports it.
 */
export function peakMemoryBytes(): number {
  return engine.cuda?.memory().peakBytes ?? (highWaterKilobytes() ?? process.resourceUsage().maxRSS) * 1024;
}

function highWaterKilobytes(): number | null {
  try {
    const found = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'));
    return found === null ? null : Number(found[1]);
  } catch {
    return null;
  }
}
