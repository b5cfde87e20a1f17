export function Overview(_: { params: URLSearchParams }) {
  return <h1>Overview</h1>;
}
