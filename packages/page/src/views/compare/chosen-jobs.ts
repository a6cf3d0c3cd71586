/** The maximum, which is the number of colours. */
export const MAX_COMPARED = 6;

const JOB_ID = /^job_[0-9a-z]{24}$/;

/** The jobs in the address: ids with commas between them. What is no id is left out. */
export function chosenJobs(text: string | null, most: number = MAX_COMPARED): string[] {
  const ids = (text ?? '').split(',').filter((id) => JOB_ID.test(id));
  return [...new Set(ids)].slice(0, most);
}

/** The chosen jobs with this one added, or removed if it was chosen. */
export function toggledJob(ids: readonly string[], id: string, most: number = MAX_COMPARED): string[] {
  return ids.includes(id) ? ids.filter((one) => one !== id) : [...ids, id].slice(0, most);
}
