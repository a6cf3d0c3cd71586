const MONTHS = [
  'January',
  'February',
  'March',
  'April',
  'May',
  'June',
  'July',
  'August',
  'September',
  'October',
  'November',
  'December',
];
const ROWS = 240;
const PROMPTS = 3;
const DAYS = 28;
const SYSTEM = 'Write the date in ISO format.';

/** Dates as people write them, and as ISO 8601 does, in lines of JSON: a task that a small model learns in a minute. */
export function exampleRows(): string {
  return Array.from({ length: ROWS }, (_, index) => `${JSON.stringify(rowOf(index))}\n`).join('');
}

/** Prompts whose answers show whether the task is learned: questions of the first rows, in lines of JSON. */
export function examplePrompts(): string {
  const prompts = Array.from({ length: PROMPTS }, (_, index) => rowOf(index).messages.slice(0, -1));
  return prompts.map((messages) => JSON.stringify(messages)).join('\n');
}

function rowOf(index: number): { messages: { role: string; content: string }[] } {
  // Steps without a common factor with their ranges, so that no date comes twice.
  const day = ((index * 11) % DAYS) + 1;
  const month = (index * 5) % MONTHS.length;
  const year = 1900 + ((index * 37) % 150);
  const name = MONTHS[month]!;
  const texts = [`${name} ${day}, ${year}`, `${day} ${name} ${year}`, `${name.slice(0, 3)} ${day} ${year}`];
  const twoDigits = (value: number) => String(value).padStart(2, '0');
  return {
    messages: [
      { role: 'system', content: SYSTEM },
      { role: 'user', content: texts[index % texts.length]! },
      { role: 'assistant', content: `${year}-${twoDigits(month + 1)}-${twoDigits(day)}` },
    ],
  };
}
