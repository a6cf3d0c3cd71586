import { renameSync, writeFileSync } from 'node:fs';

/**
 * The findings of a part's process so far, for the report. Written after each figure, since the next step may crash.
 *
 * @param {{ lines: string[], [figure: string]: unknown }} result `lines`: Markdown for the report
 */
export function writePartResult(result) {
  const file = process.env.RESULT_FILE;
  if (file === undefined) throw new Error('RESULT_FILE must name the file for the result');
  writeFileSync(`${file}.partial`, `${JSON.stringify(result, null, 2)}\n`);
  renameSync(`${file}.partial`, file);
}
