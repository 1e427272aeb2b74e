def flatten_summary_metrics(found):
    return {
        f"split={row['split']}|{name}": row[name]
        for _, row in found.iterrows()
        for name in row.index
        if name != "split"
    }
