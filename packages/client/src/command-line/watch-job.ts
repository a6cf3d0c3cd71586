import type { EventType, Job } from '@lorasmith/contracts';
import { createJobProgress } from '../job-progress.js';
import { queueReasonText } from '../report-text.js';
import { durationText, printableJson } from '../text-output.js';
import type { CommandContext } from './command.js';

/**
 * Shows the events of a job until it ends.
 * @param hidden types of events that are not shown
 */
export async function watchJob(
  { client, output, signal, json }: CommandContext,
  id: string,
  hidden: readonly EventType[] = [],
): Promise<Job> {
  const watched = json ? null : await client.getJob(id, { signal });
  const progress = createJobProgress(output, { prompts: watched?.samples?.prompts });
  const queue = watched && queueText(watched);
  if (queue !== null) output.write(`${queue}\n`);
  try {
    return await client.waitForJob(id, {
      signal,
      onEvent: (event) => {
        if (hidden.includes(event.type)) return;
        if (json) output.write(`${printableJson(event)}\n`);
        else progress.handle(event);
      },
    });
  } finally {
    progress.end();
  }
}

/** `3 jobs wait before it, all workers are busy with other jobs, starts in about 5 min, ends in about 12 min`; null: nothing is known. */
export function queueText({ status, queue }: Job): string | null {
  if (!queue) return null;
  const { ahead, reason, estimated_start: start, estimated_end: end } = queue;
  const inTime = (time: string) => durationText(Math.max(0, (Date.parse(time) - Date.now()) / 1000));
  const parts = [
    ...(status === 'queued' ? [ahead === 1 ? '1 job waits before it' : `${ahead} jobs wait before it`] : []),
    ...(reason === null ? [] : [queueReasonText(reason)]),
    ...(start === null ? [] : [`starts in about ${inTime(start)}`]),
    ...(end === null ? [] : [`ends in about ${inTime(end)}`]),
  ];
  return parts.length === 0 ? null : parts.join(', ');
}
