import { durationText } from '@lorasmith/client/core';
import type { Job } from '@lorasmith/contracts';

/** The seconds from the start to the end of a job; null if it has not ended. */
export function secondsOf({ started_at: started, ended_at: ended }: Job): number | null {
  return started === null || ended === null ? null : (Date.parse(ended) - Date.parse(started)) / 1000;
}

/** The same as text. */
export function tookText(job: Job): string | null {
  const seconds = secondsOf(job);
  return seconds === null ? null : durationText(seconds);
}
