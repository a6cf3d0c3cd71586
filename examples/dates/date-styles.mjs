// How people write a date, years 1900 to 2099.

/**
 * @typedef {object} CalendarDate
 * @property {number} year
 * @property {number} month 1 to 12
 * @property {number} day
 * @property {number} weekday 0 is Sunday
 *
 * @typedef {(date: CalendarDate) => string} DateStyle
 */

const MONTHS = 'January February March April May June July August September October November December'.split(' ');
const WEEKDAYS = 'Sunday Monday Tuesday Wednesday Thursday Friday Saturday'.split(' ');
const ORDINALS = (
  'first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth ' +
  'sixteenth seventeenth eighteenth nineteenth twentieth twenty-first twenty-second twenty-third twenty-fourth ' +
  'twenty-fifth twenty-sixth twenty-seventh twenty-eighth twenty-ninth thirtieth thirty-first'
).split(' ');

const UNDER_TWENTY = (
  'zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen ' +
  'eighteen nineteen'
).split(' ');
const TENS = '- - twenty thirty forty fifty sixty seventy eighty ninety'.split(' ');

/** @type {DateStyle} */
const month = (date) => MONTHS[date.month - 1] ?? '';
/** @type {DateStyle} */
const shortMonth = (date) => month(date).slice(0, 3);
/** @type {DateStyle} */
const weekday = (date) => WEEKDAYS[date.weekday] ?? '';
/** @type {DateStyle} */
const dayInWords = (date) => ORDINALS[date.day - 1] ?? '';

/** @param {number} number 0 to 99 */
function numberInWords(number) {
  if (number < 20) return UNDER_TWENTY[number] ?? '';
  const tens = TENS[Math.floor(number / 10)];
  return number % 10 === 0 ? (tens ?? '') : `${tens}-${UNDER_TWENTY[number % 10]}`;
}

/**
 * nineteen hundred, nineteen oh five, nineteen eighty-seven, two thousand, two thousand nine, twenty eleven
 *
 * @type {DateStyle}
 */
const yearInWords = ({ year }) => {
  const [century, rest] = [Math.floor(year / 100), year % 100];
  if (century === 20 && rest < 10) return rest === 0 ? 'two thousand' : `two thousand ${numberInWords(rest)}`;
  if (rest === 0) return `${numberInWords(century)} hundred`;
  return `${numberInWords(century)} ${rest < 10 ? 'oh ' : ''}${numberInWords(rest)}`;
};

/**
 * 1st, 2nd, 3rd, 4th …
 *
 * @type {DateStyle}
 */
const ordinal = ({ day }) => {
  const teen = day >= 11 && day <= 13;
  return `${day}${teen ? 'th' : (['th', 'st', 'nd', 'rd'][day % 10] ?? 'th')}`;
};

/** @type {DateStyle[]} */
export const DATE_STYLES = [
  (date) => `the ${dayInWords(date)} of ${month(date)}, ${date.year}`,
  (date) => `${month(date)} the ${dayInWords(date)}, ${date.year}`,
  (date) => `${month(date)} ${date.day}, ${date.year}`,
  (date) => `${shortMonth(date)} ${ordinal(date)} ${date.year}`,
  (date) => `${date.day} ${month(date)}, ${date.year}`,
  (date) => `the ${ordinal(date)} of ${month(date)} ${date.year}`,
  (date) => `${weekday(date)}, ${date.day} ${month(date)} ${date.year}`,
  (date) => `${weekday(date)}, ${month(date)} the ${ordinal(date)}, ${date.year}`,
  (date) => `${date.day} ${shortMonth(date)} ${date.year}`,
  (date) => `the ${dayInWords(date)} day of ${month(date)} in the year ${date.year}`,
  (date) => `the ${dayInWords(date)} of ${month(date)}, ${yearInWords(date)}`,
  (date) => `${weekday(date)}, ${month(date)} the ${dayInWords(date)}, ${yearInWords(date)}`,
];
