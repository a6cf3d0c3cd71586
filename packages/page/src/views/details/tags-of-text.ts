/** The tags that are typed with commas between them, each once. */
export function tagsOfText(text: string): string[] {
  const tags = text.split(',').map((tag) => tag.trim());
  return [...new Set(tags.filter((tag) => tag !== ''))];
}
