import { durationText } from '@lorasmith/client/core';
import type { Job } from '@lorasmith/contracts';

/** The time from the start to the end of a job; null if it has not ended. */
export function tookText({ started_at: started, ended_at: ended }: Job): string | null {
  return started === null || ended === null ? null : durationText((Date.parse(ended) - Date.parse(started)) / 1000);
}
